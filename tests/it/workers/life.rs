//! The life of a worker, from its first prompt to its last signal.

use super::*;

const ANSWER: &str = "say hello; done_with end_turn";
const KEEP_CAPABILITY: &str = r#"printf %s "$THREADKEY_CAPABILITY" > capability; done_with end_turn"#;

#[tokio::test]
async fn a_worker_answers_and_the_next_prompt_goes_to_the_same_process() {
    let rig = WorkerRig::scripted(r#"say "I am $$ at $PWD"; done_with end_turn"#, |_| {});
    let first = rig.turn(1, "who are you?").await;
    assert_eq!(first.done.as_deref(), Some("end_turn"), "{first:?}");
    assert!(first.text.ends_with(&format!("{}/cwd", rig.own_folder(1).display())), "{first:?}");
    assert_eq!(rig.turn(1, "and now?").await.text, first.text);
    assert_ne!(rig.turn(2, "and you?").await.text, first.text);
    assert_eq!(rig.workers.live().len(), 2);

    rig.workers.shutdown().await;
    assert!(rig.workers.live().is_empty());
    assert!(matches!(rig.prompt(1, "again").await, Err(PromptError::ShuttingDown)));
}

#[tokio::test]
async fn a_second_prompt_while_one_runs_is_refused_and_disturbs_nothing() {
    let rig = WorkerRig::scripted("say started; on_cancel() { id=$prompt; done_with cancelled; }", |_| {});
    let mut updates = rig.prompt(1, "work").await.expect("it is taken");
    assert!(matches!(next(&mut updates).await, Some(Update::Text(_))));
    assert!(matches!(rig.prompt(1, "more").await, Err(PromptError::Busy)));

    assert!(rig.workers.cancel(ConversationId(Snowflake(1))).await);
    assert_eq!(Turn::read(&mut updates).await.done.as_deref(), Some("cancelled"));
    assert!(!rig.workers.cancel(ConversationId(Snowflake(1))).await, "the turn has ended");
    assert!(rig.prompt(1, "again").await.is_ok());
}

#[tokio::test]
async fn an_agent_that_ignores_a_cancel_is_ended() {
    let rig = WorkerRig::scripted("say started; on_cancel() { :; }", |_| {});
    let mut updates = rig.prompt(1, "work").await.expect("it is taken");
    assert!(matches!(next(&mut updates).await, Some(Update::Text(_))));
    // From here on the clock advances whenever the runtime is idle.
    tokio::time::pause();
    assert!(rig.workers.cancel(ConversationId(Snowflake(1))).await);
    assert!(matches!(updates.recv().await, Some(Update::Done(reason)) if reason == "cancelled"));
    assert!(rig.workers.live().is_empty());
}

#[tokio::test]
async fn a_crash_reports_the_end_of_stderr_and_the_next_prompt_starts_a_new_worker() {
    let rig = WorkerRig::scripted(
        r#"say "half an"; echo "my secret is $THREADKEY_CAPABILITY and $KEY" >&2; exit 7"#,
        |settings| {
            settings.env.insert("KEY".into(), "{token:acme}".into());
        },
    );
    for _ in 0..2 {
        let turn = rig.turn(1, "go").await;
        assert_eq!(turn.text, "half an");
        assert_eq!(
            turn.crashed.as_deref(),
            Some("exit status 7; the agent wrote: \"my secret is [secret removed] and [secret removed]\"")
        );
    }
    assert!(rig.workers.live().is_empty());
}

#[tokio::test]
async fn a_line_over_the_limit_ends_the_worker_and_is_named_as_the_cause() {
    let rig = WorkerRig::scripted("head -c 1100000 /dev/zero | tr '\\0' x; echo; sleep 1000", |_| {});
    let turn = rig.turn(1, "go").await;
    assert_eq!(turn.crashed.as_deref(), Some("it sent a line of more than 1 MiB"));
}

#[tokio::test]
async fn a_program_that_cannot_start_is_named_with_the_reason() {
    let missing = WorkerRig::new(&["no-such-agent"], |_| {});
    let error = missing.prompt(1, "go").await.expect_err("there is no such program").to_string();
    assert!(error.contains("\"no-such-agent\" cannot be started: no such program in PATH"), "{error}");

    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "no program").expect("it can be written");
    let not_executable = WorkerRig::new(&[&file.to_string_lossy()], |_| {});
    let error = not_executable.prompt(1, "go").await.expect_err("it is no program").to_string();
    assert!(error.contains("it is not executable"), "{error}");
    assert!(not_executable.workers.live().is_empty());

    let none = WorkerRig::new(&[], |_| {});
    assert!(matches!(none.prompt(1, "go").await, Err(PromptError::NotConfigured)));
}

#[tokio::test]
async fn an_agent_that_exits_at_once_is_reported_with_its_stderr() {
    let rig = WorkerRig::new(&["/bin/sh", "-c", "echo cannot find my soul >&2; exit 3"], |_| {});
    let error = rig.prompt(1, "go").await.expect_err("it dies").to_string();
    assert!(error.contains("(exit status 3; the agent wrote: \"cannot find my soul\")"), "{error}");
    assert!(rig.workers.live().is_empty());
}

#[tokio::test]
async fn a_silent_agent_is_stopped_after_its_time() {
    let rig = WorkerRig::new(&["/bin/sh", "-c", "sleep 1000"], |settings| {
        settings.start_within = Duration::from_millis(50);
    });
    assert!(matches!(rig.prompt(1, "go").await, Err(PromptError::Silent { .. })));
    assert!(rig.workers.live().is_empty());
}

#[tokio::test]
async fn an_agent_that_refuses_the_handshake_is_quoted() {
    let refuse = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -E 's/.*"id":("[^"]*"|[0-9]+).*/\1/')
  printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"Log in first, not with %s"}}\n' "$id" "$THREADKEY_CAPABILITY"
done"#;
    let rig = WorkerRig::new(&["/bin/sh", "-c", refuse], |_| {});
    match rig.prompt(1, "go").await {
        Err(PromptError::Refused { wrote, .. }) => {
            assert_eq!(wrote, "Log in first, not with [secret removed]")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_more_workers_than_allowed_run_at_once() {
    let rig = WorkerRig::scripted(ANSWER, |settings| settings.max_workers = 1);
    rig.turn(1, "go").await;
    let others = Conversation { owner: Snowflake(200), ..conversation(2) };
    let refused = rig.workers.prompt(&others, "go".into()).await;
    assert!(matches!(refused, Err(PromptError::TooMany(1))), "another user's idle agent is not ended");
    assert_eq!(rig.workers.live(), [conversation(1)]);
    assert!(rig.workers.end(ConversationId(Snowflake(1))).await);
    assert!(rig.workers.prompt(&others, "go".into()).await.is_ok());
}

#[tokio::test]
async fn a_users_longest_idle_agent_makes_room_and_no_other() {
    let run = r#"case "$line" in *long*) say started ;; *) done_with end_turn ;; esac"#;
    let rig = WorkerRig::scripted(run, |settings| settings.max_workers_per_user = 2);
    let live = || {
        let mut live: Vec<_> = rig.workers.live().iter().map(|one| one.id.0.0).collect();
        live.sort_unstable();
        live
    };
    let others = Conversation { owner: Snowflake(200), ..conversation(9) };
    Turn::read(&mut rig.workers.prompt(&others, "go".into()).await.expect("taken")).await;
    for id in [1, 2, 1] {
        rig.turn(id, "go").await;
    }
    rig.turn(3, "go").await;
    assert_eq!(live(), [1, 3, 9], "2 was idle for longer than 1");

    let mut busy = Vec::new();
    for id in [1, 3] {
        let mut updates = rig.prompt(id, "long").await.expect("taken");
        assert!(matches!(next(&mut updates).await, Some(Update::Text(_))));
        busy.push(updates);
    }
    let refused = rig.prompt(4, "go").await.expect_err("both are at work");
    assert!(matches!(refused, PromptError::TooManyOfOwner(2)), "{refused}");
    assert!(refused.to_string().contains("agent.max_workers_per_user"), "{refused}");
    assert_eq!(live(), [1, 3, 9]);
}

#[tokio::test]
async fn unread_updates_of_a_worker_take_at_most_a_mebibyte_and_none_is_lost() {
    const LINES: usize = 8;
    const LONG: usize = 1_000_000;
    let run = format!(
        r#"big=$(head -c {LONG} /dev/zero | tr '\0' x); n=0; while [ $n -lt {LINES} ]; do say "$big"; n=$((n+1)); done; done_with end_turn"#
    );
    let rig = WorkerRig::scripted(&run, |_| {});
    let mut updates = rig.prompt(1, "go").await.expect("taken");
    let full = async {
        while updates.capacity() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, full).await.expect("the worker fills the channel and waits");
    let mut waiting = 0;
    let mut read = 0;
    for _ in 0..updates.max_capacity() {
        let Some(Update::Text(text)) = next(&mut updates).await else { panic!("text") };
        waiting += text.capacity();
        read += text.len();
    }
    assert!(waiting <= 1 << 20, "{waiting} bytes wait");
    let rest = Turn::read(&mut updates).await;
    assert_eq!(rest.done.as_deref(), Some("end_turn"));
    assert_eq!(read + rest.text.len(), LINES * LONG);
}

#[tokio::test]
async fn an_idle_worker_is_ended_and_its_capability_is_void() {
    let rig = WorkerRig::scripted(KEEP_CAPABILITY, |settings| settings.idle = Duration::from_millis(50));
    assert_eq!(rig.turn(1, "go").await.done.as_deref(), Some("end_turn"));
    rig.empty().await;
    assert_eq!(rig.capabilities.holder(&rig.kept_capability(1)), None);
    assert_eq!(rig.turn(1, "go").await.done.as_deref(), Some("end_turn"));
}

#[tokio::test]
async fn the_end_of_a_worker_also_ends_children_that_ignore_sigterm() {
    let rig = WorkerRig::scripted(
        r#"mkfifo held; exec 3<>held; (trap "" TERM; exec sleep 1000) & say started; done_with end_turn"#,
        |_| {},
    );
    assert_eq!(rig.turn(1, "go").await.text, "started");
    // The worker and its child hold the pipe, which ends after both of them have.
    let pipe = std::fs::File::open(rig.own_folder(1).join("cwd/held")).expect("it is there");
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || ended.send(std::io::read_to_string(pipe)));
    assert!(rig.workers.end(ConversationId(Snowflake(1))).await);
    timeout(WAIT, end).await.expect("the grandchild dies").expect("no panic").expect("it can be read");
    assert!(!rig.workers.end(ConversationId(Snowflake(1))).await, "the worker has ended");
}

#[tokio::test]
async fn a_worker_that_is_ended_in_a_turn_reports_it_as_cancelled() {
    let rig = WorkerRig::scripted("say started; sleep 1000", |_| {});
    let mut updates = rig.prompt(1, "go").await.expect("it is taken");
    assert!(matches!(next(&mut updates).await, Some(Update::Text(_))));
    assert!(rig.workers.end(ConversationId(Snowflake(1))).await);
    assert_eq!(Turn::read(&mut updates).await.done.as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn the_files_of_one_owners_worker_are_hidden_from_the_next_owner() {
    let run = r#"say "found: $(cat note "$HOME/note" 2>/dev/null)"; printf %s "$KEY" | tee note > "$HOME/note"; done_with end_turn"#;
    let rig = WorkerRig::scripted(run, |settings| {
        settings.env.insert("KEY".into(), "{user} ".into());
    });
    assert_eq!(rig.turn(1, "go").await.text, "found: ");
    let other = Conversation { owner: Snowflake(200), ..conversation(1) };
    let mut updates = rig.workers.prompt(&other, "go".into()).await.expect("it is taken");
    assert_eq!(Turn::read(&mut updates).await.text, "found: ");
    assert_eq!(
        rig.turn(1, "go").await.text,
        "found: 100 100 ",
        "the first owner's files are kept for the first owner"
    );
}

#[tokio::test]
async fn another_owner_of_a_conversation_gets_a_worker_with_another_capability() {
    let rig = WorkerRig::scripted(r#"say "$KEY"; done_with end_turn"#, |settings| {
        settings.isolation = Isolation::None;
        settings.env.insert("KEY".into(), "x{user}".into());
    });
    assert_eq!(rig.turn(1, "go").await.text, "x100");
    let other = Conversation { owner: Snowflake(200), ..conversation(1) };
    let mut updates = rig.workers.prompt(&other, "go".into()).await.expect("it is taken");
    assert_eq!(Turn::read(&mut updates).await.text, "x200");
    assert_eq!(rig.workers.live(), [other]);
}

#[tokio::test]
async fn a_worker_has_an_environment_and_folders_of_its_own() {
    let rig = WorkerRig::scripted(
        r#"say "$(env | cut -d= -f1 | sort | tr '\n' ' ')"; say "$GREETING $HOME $TMPDIR "; touch "$HOME/h" "$TMPDIR/t" w && say ok; done_with end_turn"#,
        |settings| {
            settings.env.insert("GREETING".into(), "{user} in {conversation}".into());
        },
    );
    let text = rig.turn(1, "go").await.text;
    let own = rig.own_folder(1);
    let own = own.display();
    // PWD, OLDPWD, SHLVL and _ are the shell's own.
    let names: Vec<_> = text.split(" 100 in 1").next().unwrap_or_default().split(' ').collect();
    let names: Vec<_> =
        names.into_iter().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    let expected = ["GREETING", "HOME", "LANG", "PATH", "TERM", "THREADKEY_CAPABILITY", "THREADKEY_SOCKET"];
    assert_eq!(names[..7], expected, "{text}");
    assert!(names[7].starts_with("TMPDIR"), "{text}");
    assert!(text.ends_with(&format!("100 in 1 {own}/home {own}/tmp ok")), "{text}");
}

#[tokio::test]
async fn the_capability_is_live_while_the_worker_is_and_void_before_it_ends() {
    let rig = WorkerRig::scripted(&format!(r#"trap "" TERM; {KEEP_CAPABILITY}"#), |_| {});
    rig.turn(1, "go").await;
    let capability = rig.kept_capability(1);
    let holder = rig.capabilities.holder(&capability).expect("it is live");
    assert_eq!((holder.conversation, holder.providers.len()), (conversation(1), 1));

    let workers = rig.workers.clone();
    let ending = tokio::spawn(async move { workers.end(ConversationId(Snowflake(1))).await });
    let void = async {
        while rig.capabilities.holder(&capability).is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, void).await.expect("the capability is voided");
    assert!(!ending.is_finished(), "the worker still resists TERM");
    assert!(ending.await.expect("no panic"));
}

#[tokio::test]
async fn a_flood_of_updates_arrives_in_order_and_invalid_lines_are_ignored() {
    let rig = WorkerRig::scripted(
        r#"
echo "this is not JSON"
note '{"sessionUpdate":"from_the_future","x":1}'
printf '{"jsonrpc":"2.0","id":"q","method":"fs/read_text_file","params":{"sessionId":"s","path":"/etc/passwd"}}\n'
n=0; while [ $n -lt 1000 ]; do say "$n "; n=$((n+1)); done
done_with end_turn"#,
        |_| {},
    );
    let turn = rig.turn(1, "go").await;
    let expected: String = (0..1000).map(|n| format!("{n} ")).collect();
    assert!(turn.text == expected, "{turn:?}");
    assert_eq!(turn.done.as_deref(), Some("end_turn"));
}

#[tokio::test]
async fn settings_that_would_open_a_secret_to_workers_are_refused() {
    let rig = WorkerRig::scripted(ANSWER, |_| {});
    let folder = rig.folder.path().to_owned();
    for read in [folder.clone(), folder.join("store/backup"), folder.join("agents"), "/".into()] {
        let rig = WorkerRig::scripted(ANSWER, |settings| {
            settings.root = folder.join("agents");
            settings.deny = vec![folder.join("store")];
            settings.read = vec![read.clone()];
        });
        let error = rig.prompt(1, "go").await.expect_err("it must be refused").to_string();
        assert!(error.contains("agent.read") && error.contains("no agent may see"), "{error}");
    }
    let error = WorkerRig::scripted(ANSWER, |settings| {
        settings.deny = vec![folder.join("agents"), folder.clone(), settings.root.clone()]
    });
    let error = error.prompt(1, "go").await.expect_err("it must be refused").to_string();
    assert!(error.contains("agent.root"), "{error}");
}

#[tokio::test]
async fn a_turn_over_its_longest_time_is_cancelled_and_names_the_limit() {
    let on_prompt = r#"say working; while sleep 0.02; do say .; done"#;
    // The script reads no cancellation, so that the end of the turn is also the end of its worker.
    let rig = WorkerRig::scripted(on_prompt, |settings| settings.max_turn = Duration::from_secs(1));
    let turn = rig.turn(1, "go").await;
    assert!(turn.text.contains("it took longer than 1 s (agent.max_turn)"), "{turn:?}");
    assert_eq!(turn.done.as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn a_turn_over_its_longest_silence_is_cancelled_and_names_the_limit() {
    let rig = WorkerRig::scripted("say first", |settings| settings.max_silence = Duration::from_secs(1));
    let turn = rig.turn(1, "go").await;
    assert!(turn.text.contains("the agent was silent for 1 s (agent.max_silence)"), "{turn:?}");
    assert_eq!(turn.done.as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn a_provider_of_an_mcp_server_is_in_use_and_its_tokens_are_not_handed_out() {
    let linear: ProviderId = "linear".parse().expect("a name");
    let rig = WorkerRig::scripted(
        "printf %s \"$THREADKEY_CAPABILITY\" > capability; done_with end_turn",
        |settings| {
            let route = "linear".parse().expect("a name");
            settings.mcp = vec![McpServer { provider: linear.clone(), route, path: "/mcp".into() }];
        },
    );
    rig.turn(1, "go").await;
    let raw = rig.capabilities.holder(&rig.kept_capability(1)).expect("it is live").providers;
    assert_eq!(raw.iter().map(ProviderId::as_str).collect::<Vec<_>>(), ["acme"]);
    for holder in [rig.workers.holder(&conversation(1)), rig.workers.holders().remove(0)] {
        assert_eq!(holder.providers.iter().map(ProviderId::as_str).collect::<Vec<_>>(), ["acme", "linear"]);
    }
    let in_use = threadkey::broker::WorkerTokens::in_use(&rig.workers.holders());
    assert!(in_use.iter().any(|tenant| tenant.provider == linear), "{in_use:?}");
}
