use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"
# A plain comment.
# HELP rows_total Rows that were sent.
# TYPE rows_total counter
rows_total{table="a",path="C:\\x\n\"q\""} 5
rows_total{table="b"} 7.5
# TYPE batch_seconds histogram
batch_seconds_bucket{le="0.1"} 1
batch_seconds_bucket{le="+Inf"} 3
batch_seconds_sum 4.5
batch_seconds_count 3
plain -Inf
"#;

fn problem(text: &str) -> Problem {
    parse(text, &Bounds::TASK).unwrap_err().problem
}

#[test]
fn a_good_text_is_read() {
    let families = parse(GOOD, &Bounds::TASK).unwrap();
    let names: Vec<_> = families
        .iter()
        .map(|f| (f.name.as_str(), f.kind, f.samples.len()))
        .collect();
    assert_eq!(
        names,
        [
            ("batch_seconds", Kind::Histogram, 4),
            ("plain", Kind::Untyped, 1),
            ("rows_total", Kind::Counter, 2),
        ]
    );
    let rows = &families[2];
    assert_eq!(rows.help, "Rows that were sent.");
    assert_eq!(rows.samples[0].labels[1].1, "C:\\x\n\"q\"");
    assert!(families[1].samples[0].value.is_infinite());
}

#[test]
fn what_is_written_is_read_back() {
    let families = parse(GOOD, &Bounds::TASK).unwrap();
    let mut text = String::new();
    write(&families, &mut text);
    assert_eq!(parse(&text, &Bounds::TASK).unwrap(), families);
}

#[test]
fn bad_texts_are_refused_with_the_line() {
    let bad = parse("ok 1\nok 1\n", &Bounds::TASK).unwrap_err();
    assert_eq!(
        bad.to_string(),
        "line 2: the same series as on an earlier line: ok"
    );
    assert!(matches!(problem("1x 2"), Problem::MetricName { .. }));
    assert!(matches!(
        problem("x{__a=\"1\"} 2"),
        Problem::LabelName { .. }
    ));
    assert!(matches!(
        problem("x{a=\"1\",a=\"2\"} 2"),
        Problem::LabelTwice { .. }
    ));
    assert!(matches!(problem("x{a=1} 2"), Problem::LabelSyntax));
    assert!(matches!(problem("x{a=\"1} 2"), Problem::LabelSyntax));
    assert!(matches!(problem("x"), Problem::Number { .. }));
    assert!(matches!(problem("x infinity"), Problem::Number { .. }));
    assert!(matches!(problem("x 1 1700000000000"), Problem::Timestamp));
    assert!(matches!(problem("# TYPE x speed"), Problem::Type { .. }));
    assert!(matches!(
        problem("x 1\n# TYPE x gauge"),
        Problem::MetadataTwice { .. }
    ));
    assert!(matches!(
        problem("# TYPE x counter\nx -1"),
        Problem::CounterValue { .. }
    ));
    assert!(matches!(
        problem("# TYPE x histogram\nx 1"),
        Problem::Part { .. }
    ));
}

#[test]
fn a_histogram_must_be_whole() {
    let whole =
        "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n";
    assert!(parse(whole, &Bounds::TASK).is_ok());
    let lines: Vec<_> = whole.lines().collect();
    for missing in 2..lines.len() {
        let mut text = lines.clone();
        text.remove(missing);
        let text = text.join("\n");
        assert!(
            matches!(problem(&text), Problem::Histogram { .. }),
            "{text}"
        );
    }
    let falling = whole.replace("le=\"1\"} 2", "le=\"1\"} 9");
    assert!(matches!(problem(&falling), Problem::Histogram { .. }));
}

#[test]
fn bounds_hold() {
    let many: String = (0..201).map(|n| format!("x{{n=\"{n}\"}} 1\n")).collect();
    assert_eq!(problem(&many), Problem::Samples { most: 200 });
    let long = format!("x{{n=\"{}\"}} 1", "v".repeat(129));
    assert!(matches!(
        problem(&long),
        Problem::LabelValue { length: 129, .. }
    ));
    let labels: Vec<_> = (0..17).map(|n| format!("l{n}=\"\"")).collect();
    let wide = format!("x{{{}}} 1", labels.join(","));
    assert!(matches!(problem(&wide), Problem::Labels { .. }));
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "[ -~\n\\\\\"{}=#éa-c0-9]{0,200}") {
        if let Ok(families) = parse(&text, &Bounds::TASK) {
            let mut again = String::new();
            write(&families, &mut again);
            prop_assert!(parse(&again, &Bounds::TASK).is_ok(), "{again}");
        }
    }
}
