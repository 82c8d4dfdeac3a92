//! A machine that cannot isolate workers: every mode but `none` refuses to start one.
#![expect(unsafe_code, reason = "a system call filter imitates a machine without Landlock")]

use super::*;

#[test]
fn isolation_that_the_machine_cannot_give_refuses_to_spawn() {
    for isolation in [Isolation::Auto, Isolation::Landlock] {
        without_landlock(async move {
            let rig = WorkerRig::scripted("done_with end_turn", |settings| settings.isolation = isolation);
            let error = rig.prompt(1, "go").await.expect_err("it must be refused");
            assert!(matches!(error, PromptError::NoIsolation(_)), "{error}");
            let words = error.to_string();
            assert!(words.contains("Linux 6.12") && words.contains("agent.isolation = \"none\""), "{words}");
            assert!(!rig.folder.path().join("agents").exists(), "no folder was created");
        });
    }
    without_landlock(async {
        let rig = WorkerRig::scripted("say hello; done_with end_turn", |settings| {
            settings.isolation = Isolation::None
        });
        assert_eq!(rig.turn(1, "go").await.text, "hello", "the mode none works on every machine");
    });
}

/// Runs the scene on a thread for which the kernel has no Landlock, and neither for the threads
/// that it starts.
fn without_landlock(scene: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        refuse_landlock();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(scene);
    });
    thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
}

/// Makes `landlock_create_ruleset` answer ENOSYS from here on, in this thread and its children.
fn refuse_landlock() {
    const NUMBER: u32 = 0;
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_landlock_create_ruleset as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the arguments are plain numbers and a program that outlives the call, which copies
    // it.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program), 0, 0)
    };
    assert_eq!(installed, 0, "the filter can be installed");
}
