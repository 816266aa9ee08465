use super::*;

#[test]
fn every_form_reads_back() {
    for text in [
        "k7m2q9x4",
        "k7m2q9x4.17",
        "k7m2q9x4.12-40",
        "k7m2q9x4.0-3,9",
        "k7m2q9x4.17#2",
        "01jz8f5g3kq9w2m4n6p8r0t2v4",
        "@last",
        "@last.3",
    ] {
        let target: Target = text.parse().unwrap();
        assert_eq!(target.to_string(), text);
    }
}

#[test]
fn what_names_nothing_is_refused_with_the_reason() {
    let problem = |text: &str| text.parse::<Target>().unwrap_err().to_string();
    assert_eq!(
        problem("k7m2"),
        "\"k7m2\" is not the id of a job: at least its last 8 characters of 0-9 and a-z without i, l, o, u"
    );
    assert_eq!(
        problem("k7m2q9x4.40-12"),
        "\"40-12\" is not an index or a range such as 3 or 12-40; indexes start at 0"
    );
    assert_eq!(
        problem("k7m2q9x4.1#0"),
        "\"0\" is not the number of an attempt; the first is 1, as in JOB.0#1"
    );
    assert!("k7m2q9x4.".parse::<Target>().is_err());
    assert!("K7M2Q9X4".parse::<Target>().is_err());
}

#[test]
fn a_command_takes_what_it_is_about() {
    let target = |text: &str| text.parse::<Target>().unwrap();
    assert_eq!(target("k7m2q9x4").whole_job(), Ok("k7m2q9x4"));
    assert!(target("k7m2q9x4.1").whole_job().is_err());
    assert_eq!(target("k7m2q9x4").one_task(), Ok((None, None)));
    assert_eq!(target("k7m2q9x4.7").one_task(), Ok((Some(7), None)));
    assert_eq!(target("k7m2q9x4.7#3").one_task(), Ok((Some(7), Some(3))));
    assert!(target("k7m2q9x4.7-8").one_task().is_err());
}

#[test]
fn the_short_form_is_the_end() {
    assert_eq!(short("01jz8f5g3kq9w2m4n6p8r0t2v4"), "p8r0t2v4");
    assert_eq!(short("abc"), "abc");
}
