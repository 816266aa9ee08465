use super::*;
use crate::outcome::KillReason;

fn accepted() -> Entry {
    let offer = pb::Offer {
        team: "default".into(),
        image: "sha256:00".into(),
        ..Default::default()
    };
    Entry::Accepted {
        offer: offer.encode_to_vec(),
        container: "mu-x".into(),
        cluster: "c".into(),
        term: 7,
        init_key: Some("k".into()),
        adopted: false,
        heard: Some(Heard {
            boot_id: "b".into(),
            at: 4,
        }),
    }
}

fn intent() -> Entry {
    Entry::StartIntent(Intent {
        at: 1,
        boot_id: "b".into(),
        engine_ticks: Some(5),
        boot_clock: 9,
        warm: Some("mu-01234567-warm-1".to_owned()),
    })
}

#[tokio::test]
async fn what_was_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("attempt");
    let journal = Journal::create(dir.clone(), accepted()).await.unwrap();
    assert_eq!(read(&dir).unwrap().reached(), Journaled::Accepted);

    journal.append_durably(intent()).await.unwrap();
    assert_eq!(read(&dir).unwrap().reached(), Journaled::StartIntent);

    journal.note_started(Timestamp(3)).unwrap();
    let kill = Kill {
        at: 4,
        signal: 15,
        reason: KillReason::Canceled,
    };
    let again = Journal::reopen(&dir).unwrap();
    again.append_durably(Entry::Kill(kill)).await.unwrap();
    let history = read(&dir).unwrap();
    assert_eq!(history.reached(), Journaled::Started);
    assert_eq!((history.kills.as_slice(), history.term), (&[kill][..], 7));

    let report = pb::Report {
        seq: 3,
        ..Default::default()
    };
    let report = report.encode_to_vec();
    journal
        .append_durably(Entry::Ended { report })
        .await
        .unwrap();
    assert_eq!(read(&dir).unwrap().reached(), Journaled::Ended);
}

#[tokio::test]
async fn a_cut_last_line_was_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path().into(), accepted())
        .await
        .unwrap();
    let first = fs::read(dir.path().join(FILE)).unwrap().len();
    journal.append_durably(intent()).await.unwrap();
    let whole = fs::read(dir.path().join(FILE)).unwrap();
    for cut in 0..whole.len() {
        fs::write(dir.path().join(FILE), &whole[..cut]).unwrap();
        let reached = read(dir.path()).map(|history| history.reached());
        if cut < first {
            assert!(matches!(reached, Err(BadJournal::NoOffer)), "cut at {cut}");
        } else {
            assert!(matches!(reached, Ok(Journaled::Accepted)), "cut at {cut}");
        }
    }
}

#[test]
fn damage_in_the_middle_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), b"{}\nnonsense\n").unwrap();
    assert!(matches!(
        read(dir.path()),
        Err(BadJournal::Line { line: 1 })
    ));
}

#[tokio::test]
async fn what_was_forgotten_halfway_is_cleared() {
    let attempts = tempfile::tempdir().unwrap();
    let whole = attempts.path().join("0.0-1");
    Journal::create(whole.clone(), accepted()).await.unwrap();
    // Died while it forgot, before it began a journal, and with one that people should look at.
    let half = attempts.path().join("0.1-1.gone");
    fs::create_dir_all(half.join("run")).unwrap();
    fs::create_dir(attempts.path().join("0.2-1")).unwrap();
    let damaged = attempts.path().join("0.3-1");
    Journal::create(damaged.clone(), accepted()).await.unwrap();
    set_aside(&damaged).unwrap();

    clear(attempts.path());
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(attempts.path()), ["0.0-1", "0.3-1"]);
    assert_eq!(names(&damaged), [DAMAGED]);

    fs::create_dir(whole.join("run")).unwrap();
    forget(&whole).unwrap();
    assert_eq!(names(attempts.path()), ["0.3-1"]);
}
