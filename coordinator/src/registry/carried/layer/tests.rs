use std::io::Write as _;

use super::*;

/// An archive of these entries; a directory's name ends in `/`, a link's text begins with `->`.
fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = text.strip_prefix("->") {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
            continue;
        }
        if name.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
        }
        header.set_size(u64::try_from(text.len()).unwrap());
        builder
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn look(entries: &[(&str, &str)], wanted: &str) -> Scanned {
    scan(&archive(entries)[..], &path(wanted).unwrap())
}

#[test]
fn a_file_is_found_however_the_layer_is_packed() {
    let plain = archive(&[("app/", ""), ("app/muster.yaml", "kind: Image\n")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for packed in [plain.clone(), gzip.finish().unwrap(), zstd] {
        for name in ["/app/muster.yaml", "app/muster.yaml", "./app//muster.yaml"] {
            let found = scan(&packed[..], &path(name).unwrap());
            assert_eq!(found, Scanned::Found("kind: Image\n".to_owned()), "{name}");
        }
        let other = scan(&packed[..], &path("/muster.yaml").unwrap());
        assert_eq!(other, Scanned::Absent);
    }
}

#[test]
fn names_may_be_long() {
    let name = format!("{}/muster.yaml", "directory/".repeat(30));
    let found = look(&[(&name, "x")], &name);
    assert_eq!(found, Scanned::Found("x".to_owned()));
    let mut builder = tar::Builder::new(Vec::new());
    let records = [("path", name.as_bytes())];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    builder
        .append_data(&mut header, "short", &b"y"[..])
        .unwrap();
    let packed = builder.into_inner().unwrap();
    let found = scan(&packed[..], &path(&name).unwrap());
    assert_eq!(found, Scanned::Found("y".to_owned()));
}

#[test]
fn what_a_layer_removes_is_gone_unless_it_is_there_anew() {
    for mark in [
        "app/.wh.muster.yaml",
        ".wh.app",
        "app/.wh..wh..opq",
        ".wh..wh..opq",
    ] {
        assert_eq!(look(&[(mark, "")], "/app/muster.yaml"), Scanned::Gone);
        let anew = look(&[("app/muster.yaml", "x"), (mark, "")], "/app/muster.yaml");
        assert_eq!(anew, Scanned::Found("x".to_owned()), "{mark}");
    }
    for other in [
        "app/.wh.other",
        ".wh.other",
        "other/.wh..wh..opq",
        "app/muster.yaml.old",
    ] {
        assert_eq!(look(&[(other, "")], "/app/muster.yaml"), Scanned::Absent);
    }
    let replaced = look(&[("app", "->srv")], "/app/muster.yaml");
    assert_eq!(replaced, Scanned::Gone);
}

#[test]
fn what_is_no_small_text_in_a_file_is_refused() {
    let linked = look(&[("muster.yaml", "->/etc/passwd")], "/muster.yaml");
    assert_eq!(linked, Scanned::Bad("is no regular file".to_owned()));
    let directory = look(&[("muster.yaml/", "")], "/muster.yaml");
    assert_eq!(directory, Scanned::Bad("is no regular file".to_owned()));
    let long = "x".repeat(300_000);
    let large = look(&[("muster.yaml", &long)], "/muster.yaml");
    let expected = "is 300000 bytes long; at most 262144".to_owned();
    assert_eq!(large, Scanned::Bad(expected));
    let cut = &archive(&[("muster.yaml", &"x".repeat(5000))])[..2000];
    let garbage = [7; 2000];
    for bytes in [cut, &garbage[..]] {
        let scanned = scan(bytes, &path("/muster.yaml").unwrap());
        assert!(matches!(scanned, Scanned::Bad(_)), "{scanned:?}");
    }
}

/// A name of some gigabytes would fit in a layer of some kilobytes.
#[test]
fn names_are_not_read_beyond_their_bound() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(NAME_MAX + 1);
    header.set_cksum();
    let scanned = scan(&header.as_bytes()[..], &path("/muster.yaml").unwrap());
    let Scanned::Bad(what) = scanned else {
        panic!("{scanned:?}");
    };
    assert!(what.contains("a name that is too long"), "{what}");
}

#[test]
fn more_than_may_be_is_not_unpacked() {
    let mut bounded = Bounded {
        reader: io::repeat(0),
        left: 100,
    };
    assert_eq!(bounded.read(&mut [0; 100]).unwrap(), 100);
    assert!(bounded.read(&mut [0; 1]).is_err());
}

#[test]
fn a_path_names_a_file() {
    for wrong in ["", "/", "/app/", "..", "/app/../muster.yaml"] {
        assert_eq!(path(wrong), None, "{wrong}");
    }
}
