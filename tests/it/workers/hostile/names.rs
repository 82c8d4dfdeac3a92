//! A worker that watches all folders whose path it knows or learns, to read other workers' file names.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CString, OsStr},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::super::*;

const SECRET_NAME: &str = "plan-to-buy-the-competitor.txt";
const RUN: &str = r#"case "$line" in
  *watch*) "$PROBE" --exact workers::hostile::names::watcher --nocapture > out 2>&1 & done_with end_turn ;;
  *work*) echo x > plan-to-buy-the-competitor.txt; mkdir -p src; done_with end_turn ;;
  *) done_with end_turn ;;
esac"#;

#[tokio::test]
async fn a_worker_that_watches_learns_no_name_of_another_worker() {
    let (names, folder) = watch(true).await;
    assert!(!names.contains(&folder), "the name of the other worker's folder");
    assert!(!names.contains(SECRET_NAME), "{names:?}");
}

#[tokio::test]
async fn a_folder_that_is_made_beside_a_watching_worker_is_seen_with_its_files() {
    let (names, folder) = watch(false).await;
    assert!(names.contains(&folder) && names.contains(SECRET_NAME), "the watcher works: {names:?}");
}

/// Runs a watching worker, and beside it a new one that makes files. Returns the names that the
/// watcher saw, and the name of the new worker's folder.
async fn watch(prepared: bool) -> (BTreeSet<String>, String) {
    let probe = std::env::current_exe().expect("this program has a path");
    let program_folder = probe.parent().expect("it is in a folder").to_owned();
    let rig = WorkerRig::scripted(RUN, |settings| {
        settings.read = vec![program_folder];
        settings.env.insert("PROBE".into(), probe.to_string_lossy().into_owned());
        settings.env.insert("WATCH".into(), settings.root.to_string_lossy().into_owned());
    });
    if prepared {
        rig.workers.prepare().await.expect("prepared");
    }
    rig.turn(1, "watch").await;
    let own = rig.own_folder(1).join("cwd");
    exists(&own.join("watching")).await;
    rig.turn(2, "begin").await;
    let other = rig.own_folder(2);
    let name = other.file_name().expect("a name").to_string_lossy().into_owned();
    if !prepared {
        exists(&own.join(format!("watching-{name}"))).await;
    }
    rig.turn(2, "work").await;
    rig.workers.end(ConversationId(Snowflake(2))).await;
    fs::write(own.join("stop"), "").expect("it can be written");
    exists(&own.join("stopped")).await;
    let names = fs::read_to_string(own.join("stopped")).expect("the watcher's report");
    rig.workers.shutdown().await;
    (names.lines().map(str::to_owned).collect(), name)
}

async fn exists(path: &Path) {
    let exists = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, exists).await.unwrap_or_else(|_| panic!("no {}", path.display()));
}

/// The watching program. As a test of its own it does nothing.
#[test]
fn watcher() {
    let Some(root) = std::env::var_os("WATCH").map(PathBuf::from) else { return };
    let mut watches = Watches::new();
    let own = std::env::current_dir().expect("a folder");
    for folder in own.ancestors().skip(2).chain([root.as_path(), Path::new("/tmp"), Path::new("/run")]) {
        watches.add(folder);
    }
    fs::write("watching", "").expect("our own folder");
    let mut names = BTreeSet::new();
    while !Path::new("stop").exists() {
        names.extend(watches.read());
        std::thread::sleep(Duration::from_millis(1));
    }
    names.extend(watches.read());
    fs::write("report", names.into_iter().collect::<Vec<_>>().join("\n")).expect("our own folder");
    fs::rename("report", "stopped").expect("our own folder");
}

struct Watches {
    inotify: i32,
    folders: BTreeMap<i32, PathBuf>,
}

impl Watches {
    fn new() -> Self {
        // SAFETY: plain numbers.
        let inotify = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        assert!(inotify >= 0, "inotify works");
        Self { inotify, folders: BTreeMap::new() }
    }

    fn add(&mut self, folder: &Path) -> bool {
        let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
        // SAFETY: a C string and plain numbers.
        let watch = unsafe { libc::inotify_add_watch(self.inotify, path.as_ptr(), libc::IN_ALL_EVENTS) };
        watch >= 0 && self.folders.insert(watch, folder.to_owned()).is_none()
    }

    /// Reads the names of new events, and watches what it learns of.
    fn read(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        let mut buffer = [0_u8; 65_536];
        loop {
            // SAFETY: a buffer of the given length.
            let length = unsafe { libc::read(self.inotify, buffer.as_mut_ptr().cast(), buffer.len()) };
            let Ok(length) = usize::try_from(length) else { return names };
            let mut events = &buffer[..length];
            while events.len() >= 16 {
                let field = |at: usize| u32::from_ne_bytes(events[at..at + 4].try_into().expect("4 bytes"));
                let (watch, long) = (field(0) as i32, field(12) as usize);
                let name: Vec<u8> = events[16..16 + long].iter().copied().take_while(|b| *b != 0).collect();
                events = &events[16 + long..];
                if name.is_empty() {
                    continue;
                }
                let name = OsStr::from_bytes(&name);
                names.push(name.to_string_lossy().into_owned());
                let Some(folder) = self.folders.get(&watch).cloned() else { continue };
                let watched = folder.join(name);
                // The working folder is there already, or its own event follows.
                let is_work = self.add(&watched) && name == "cwd";
                let of = if is_work { folder.file_name() } else { Some(name) };
                if let Some(of) = of.filter(|_| is_work || self.add(&watched.join("cwd"))) {
                    let _ = fs::write(format!("watching-{}", of.to_string_lossy()), "");
                }
            }
        }
    }
}
