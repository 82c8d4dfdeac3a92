use super::*;

const LIMITS: GroupLimits = GroupLimits { memory: 1_048_576, processes: 7 };

/// A folder with the files of a group. On it the kernel's rules do not hold, and files that are
/// written are created.
fn fake(processes: &str, controllers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("cgroup.procs"), processes).expect("written");
    write(&folder.path().join("cgroup.controllers"), controllers).expect("written");
    folder
}

#[test]
fn the_bot_moves_into_a_group_of_its_own_and_limits_each_worker() {
    let tree = fake("42\n", "cpuset cpu io memory pids\n");
    let left_over = tree.path().join("worker-1");
    create_dir(&left_over).expect("made");
    let groups = Cgroups::take_over_at(tree.path(), 42).expect("it is delegated");
    let text = |name: &str| read(&tree.path().join(name)).expect(name);
    assert_eq!(text("bot/cgroup.procs"), "42");
    assert_eq!(text("cgroup.subtree_control"), "+pids", "each controller was written by itself");
    assert_eq!(text("worker-1/cgroup.kill"), "1", "what an earlier start left is killed");
    assert!(groups.missing().is_empty());

    let worker = groups.create(LIMITS).expect("created");
    assert_eq!(worker.folder, tree.path().join("worker-2"), "a name is used once");
    assert_eq!(text("worker-2/memory.max"), "1048576");
    assert_eq!(text("worker-2/memory.swap.max"), "0");
    assert_eq!(text("worker-2/pids.max"), "7");
    worker.kill().expect("killed");
    assert_eq!(text("worker-2/cgroup.kill"), "1");
}

#[test]
fn a_missing_controller_is_named_and_the_other_limit_holds() {
    let tree = fake("42\n", "pids\n");
    let groups = Cgroups::take_over_at(tree.path(), 42).expect("it is delegated");
    assert_eq!(groups.missing(), ["memory"]);
    let worker = groups.create(LIMITS).expect("created");
    assert!(worker.folder.join("pids.max").exists() && !worker.folder.join("memory.max").exists());
}

#[expect(clippy::disallowed_methods, reason = "the test's own files are not the program's")]
#[test]
fn a_worker_that_spoils_the_files_of_its_group_is_killed() {
    let tree = fake("42\n", "pids\n");
    let killer = tree.path().join("cgroup.kill");
    write(&killer, "").expect("written");
    let worker = Cgroup {
        folder: tree.path().join("spoiled"),
        processes: open_for_writing(&tree.path().join("processes")).expect("open"),
        killer: open_existing(&killer).ok(),
    };
    fs::rename(&killer, tree.path().join("moved")).expect("moved");
    worker.kill().expect("killed");
    assert_eq!(read(&tree.path().join("moved")).expect("there"), "1");
}

#[test]
fn a_group_of_others_is_left_unchanged() {
    let tree = fake("1\n42\n", "memory pids\n");
    let reason = Cgroups::take_over_at(tree.path(), 42).expect_err("it is shared");
    assert!(reason.contains("other processes are in it"), "{reason}");
    assert_eq!(fs::read_dir(tree.path()).expect("there").count(), 2);
    let reason = Cgroups::take_over_at(&tree.path().join("missing"), 42).expect_err("there is none");
    assert!(reason.contains("not delegated"), "{reason}");
}

#[test]
fn the_own_group_is_found_wherever_cgroup_v2_is_mounted() {
    let plain = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    let unit = "0::/system.slice/threadkey.service\n";
    let at = |own, mounts| locate(own, mounts).map(|path| path.to_string_lossy().into_owned());
    assert_eq!(at(unit, plain).as_deref(), Some("/sys/fs/cgroup/system.slice/threadkey.service"));
    let hybrid = "31 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                  32 31 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    assert_eq!(at("9:pids:/x\n0::/\n", hybrid).as_deref(), Some("/sys/fs/cgroup/unified/"));
    let container = "40 23 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup ro";
    assert_eq!(at("0::/docker/ab/x\n", container).as_deref(), Some("/sys/fs/cgroup/x"));
    assert_eq!(at("9:pids:/x\n", plain), None);
    assert_eq!(at(unit, "31 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro"), None);
}
