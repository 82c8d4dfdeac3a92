//! Processes that leave their worker's process group, and the limits of a worker.
#![expect(unsafe_code, reason = "a process of the test is signalled")]

use std::{fs, process::Stdio};

use threadkey::sys::{
    cgroup::{Cgroups, GroupLimits},
    process::{self, Limits, Spec},
};

use super::*;

/// Leaves the group, the session, the parent and the environment.
const ESCAPE: &str = r#"(env -i setsid sh -c 'echo $$ > "$1"; exec sleep 1000' sh "$PWD/pid.new" &) ; while [ ! -s pid.new ]; do sleep 0.01; done; mv pid.new pid"#;

/// The processes of this program that a test starts by [`supervisor`].
const MODE: &str = "THREADKEY_TEST_SUPERVISOR";

#[tokio::test]
async fn a_process_that_left_its_worker_ends_with_the_worker() {
    assert_eq!(supervised("orphans", &[]).await, "gone");
}

#[tokio::test]
async fn without_a_supervisor_a_process_that_left_its_worker_lives_on() {
    assert_eq!(supervised("nothing", &[]).await, "alive");
}

#[tokio::test]
async fn a_cgroup_ends_every_process_of_its_worker_for_real() {
    let own = fs::read_to_string("/proc/self/mountinfo").expect("Linux");
    let mounted = own.lines().filter(|line| line.contains(" - cgroup2 "));
    let mounted = mounted.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).next();
    let group = mounted.map(|at| at.join(format!("threadkey-test-{}", std::process::id())));
    let made = group.as_ref().map(fs::create_dir);
    match (group, made) {
        (Some(group), Some(Ok(()))) => {
            let result = supervised("cgroup", &[("GROUP", &group.to_string_lossy())]).await;
            let left: Vec<_> = fs::read_dir(&group).expect("there").flatten().collect();
            let left: Vec<_> = left.iter().filter(|entry| entry.path().is_dir()).map(|e| e.path()).collect();
            for folder in left.iter().chain([&group]) {
                let _ = fs::remove_dir(folder);
            }
            assert_eq!(result, "gone");
            assert_eq!(left, [group.join("bot")], "the worker's group is removed");
        }
        (None, _) => println!("cgroup v2 is not mounted here, so cgroup.kill was not tried"),
        (_, error) => println!("no cgroup can be made here, so cgroup.kill was not tried: {error:?}"),
    }
}

/// Runs [`supervisor`] in this mode. Returns what became of the process that left its worker.
async fn supervised(mode: &str, env: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let output = tokio::process::Command::new(program)
        .args(["--exact", "workers::escape::supervisor", "--nocapture"])
        .env(MODE, mode)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output();
    let output = timeout(WAIT, output).await.expect("it ends").expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = text.lines().find_map(|line| line.strip_prefix("result: "));
    result.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

/// A bot of its own process. As a test of its own it does nothing.
#[test]
fn supervisor() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let pid = runtime.expect("a runtime").block_on(async {
        if mode == "cgroup" { end_by_cgroup().await } else { end_by_worker(mode == "orphans").await }
    });
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_alive = !state.is_empty() && !state.contains(") Z ");
    println!("\nresult: {}", if is_alive { "alive" } else { "gone" });
    if is_alive {
        // SAFETY: plain numbers; the process is the one that the worker started.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

async fn end_by_worker(is_supervised: bool) -> i32 {
    let rig = WorkerRig::scripted(&format!("{ESCAPE}; done_with end_turn"), |_| {});
    rig.workers.prepare().await.expect("prepared");
    if is_supervised {
        let missing = rig.workers.supervise();
        let noted = threadkey::agent::missing_limits(&rig.folder.path().join("agents"));
        assert_eq!(noted, Some(missing.err().unwrap_or_default()), "doctor finds the same");
    }
    rig.turn(1, "go").await;
    let pid = fs::read_to_string(rig.own_folder(1).join("cwd/pid")).expect("it ran");
    assert!(rig.workers.end(ConversationId(Snowflake(1))).await);
    pid.trim().parse().expect("a process id")
}

async fn end_by_cgroup() -> i32 {
    let group = PathBuf::from(std::env::var("GROUP").expect("given"));
    let own = std::process::id();
    fs::write(group.join("cgroup.procs"), own.to_string()).expect("it can enter");
    let groups = Cgroups::take_over_at(&group, own).expect("it is alone in it");
    let cgroup = groups.create(GroupLimits { memory: 1 << 30, processes: 100 }).expect("created");
    let folder = tempfile::tempdir().expect("a folder");
    let spec = Spec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), format!("{ESCAPE}; exec sleep 1000").into()],
        env: vec![("PATH".into(), "/bin:/usr/bin".into())],
        folder: folder.path().to_owned(),
        sandbox: None,
        limits: Limits::default(),
        cgroup: Some(cgroup),
    };
    let (mut child, _pipes) = process::spawn(spec).await.expect("started");
    while !folder.path().join("pid").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = fs::read_to_string(folder.path().join("pid")).expect("it ran");
    child.kill().await.expect("killed");
    println!("missing controllers: {:?}", groups.missing());
    pid.trim().parse().expect("a process id")
}

#[tokio::test]
async fn a_worker_has_limits_on_file_sizes_descriptors_and_core_dumps() {
    let run = r#"say "$(ulimit -Hn) $(ulimit -Hc) "; head -c 3000000 /dev/zero > big 2>/dev/null || say "refused at $(wc -c < big)"; done_with end_turn"#;
    let rig = WorkerRig::scripted(run, |settings| {
        settings.limits.file_size = 2_000_000;
        settings.limits.open_files = 100;
    });
    assert_eq!(rig.turn(1, "go").await.text, "100 0 refused at 2000000");
    assert_eq!(rig.turn(1, "go").await.text, "100 0 refused at 2000000", "the agent lives on");
}
