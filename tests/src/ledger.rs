//! What really ran, as the tasks themselves tell it: a file outside of everything that muster knows.
//!
//! No task can have a mount, so the engine's runtime is a wrapper around runc that adds one to every
//! container: `/ledger`. Neither the daemons nor the engine notice.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A shell function for tasks: `say start`, `say end`.
pub const SAY: &str = "say() { read up _ </proc/uptime; \
     echo \"$MUSTER_TASK_ID $MUSTER_ATTEMPT $MUSTER_FENCE $1 $up\" >>/ledger/lines; }; ";

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Start,
    End,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// `JOB.INDEX`.
    pub task: String,
    pub attempt: u32,
    pub fence: u32,
    pub moment: Moment,
    /// Seconds since the host's start.
    pub at: f64,
}

#[derive(Debug)]
pub struct Ledger {
    directory: PathBuf,
}

impl Ledger {
    /// Makes an empty one, and the runtime that mounts it.
    pub fn create(directory: &Path) -> Self {
        let ledger = Self {
            directory: directory.to_owned(),
        };
        let pages = ledger.pages();
        std::fs::create_dir_all(&pages).expect("the test's directory can be written");
        // Tasks are nobody.
        std::fs::set_permissions(&pages, std::fs::Permissions::from_mode(0o777))
            .expect("a new directory is ours");
        ledger.make_runtime();
        ledger
    }

    /// The wrapper as it should be.
    pub(crate) fn make_runtime(&self) {
        let mount = format!(
            r#"{{"destination":"/ledger","type":"bind","source":"{}","options":["rbind","rw"]}}"#,
            self.pages().display()
        );
        let script = format!(
            "#!/bin/sh\n\
             # runc, with the ledger in every container it creates.\n\
             bundle= create= last=\n\
             for word; do\n\
             [ \"$last\" != --bundle ] || bundle=$word\n\
             [ \"$word\" != create ] || create=yes\n\
             last=$word\n\
             done\n\
             [ -z \"$create\" ] || sed -i 's|\"mounts\":\\[|&{mount},|' \"$bundle/config.json\"\n\
             exec runc \"$@\"\n"
        );
        self.write_runtime(&script);
    }

    /// One that starts nothing.
    pub(crate) fn break_runtime(&self) {
        self.write_runtime("#!/bin/sh\nexit 1\n");
    }

    /// In one step, because it may be run at the same moment.
    fn write_runtime(&self, script: &str) {
        let new = self.directory.join("runc.new");
        std::fs::write(&new, script).expect("the test's directory can be written");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))
            .expect("a new file is ours");
        std::fs::rename(&new, self.runtime()).expect("both are in one directory");
    }

    /// The wrapper around runc.
    pub fn runtime(&self) -> PathBuf {
        self.directory.join("runc")
    }

    fn pages(&self) -> PathBuf {
        self.directory.join("pages")
    }

    /// Everything about a job's tasks, in the order it was written.
    pub fn of_job(&self, job: &str) -> Vec<Entry> {
        let text = std::fs::read_to_string(self.pages().join("lines")).unwrap_or_default();
        let all = text.lines().map(|line| {
            parse(line)
                .unwrap_or_else(|| panic!("the ledger has a line that no task writes: {line}"))
        });
        all.filter(|entry| entry.task.split('.').next() == Some(job))
            .collect()
    }
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let entry = Entry {
        task: words.next()?.to_owned(),
        attempt: words.next()?.parse().ok()?,
        fence: words.next()?.parse().ok()?,
        moment: match words.next()? {
            "start" => Moment::Start,
            "end" => Moment::End,
            _ => return None,
        },
        at: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(entry)
}
