//! The tables `[agents.NAME]`.

use super::*;

#[test]
fn each_agent_of_a_table_has_the_common_keys_and_its_own() {
    let text = format!(
        "{ACME}\n[agent]\nproviders = ['acme']\ndefault = 'codex'\nidle = '5m'\n[agent.env]\nA = '1'\nB = '2'\n\
         [agents.codex]\ncommand = ['codex-acp']\n[agents.claude-code]\ncommand = ['claude-agent-acp', '--x']\n\
         providers = []\nread = ['/opt/claude']\nenv = {{ B = '3' }}\n"
    );
    let variables = [
        ("THREADKEY_AGENTS__CLAUDE_CODE__ENV__C", "{user}"),
        ("THREADKEY_AGENTS__CODEX__COMMAND", "codex,--y"),
    ];
    let agents = load(&text, &variables).expect("is valid").agents.expect("is there");
    assert_eq!(agents.default_name().map(ToString::to_string).as_deref(), Some("codex"));
    let all = agents.all();
    let env = |agent: &crate::agent::AgentSettings| {
        agent.env.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(" ")
    };
    let found: Vec<_> = all
        .iter()
        .map(|agent| (agent.title.as_str(), agent.command.join(" "), env(agent), agent.providers.len()))
        .collect();
    assert_eq!(
        found,
        [
            ("claude-code", "claude-agent-acp --x".to_owned(), "A=1 B=3 C={user}".to_owned(), 0),
            ("codex", "codex --y".to_owned(), "A=1 B=2".to_owned(), 1),
        ]
    );
    assert!(all.iter().all(|agent| agent.idle.as_secs() == 300));
}

#[test]
fn a_wrong_table_of_agents_is_refused_with_its_place() {
    for (text, problem) in [
        ("[agents.a]\n", "line 9, column 9: agents.a.command is required"),
        ("[agents.a]\ncommand = ['x']\n", "agents.a.providers is required"),
        (
            "[agents.a]\ncommand = ['x']\nproviders = ['acne']\n",
            "line 11, column 1: agents.a.providers: there is no provider acne in the configuration; did you mean acme?",
        ),
        (
            "[agents.a]\ncommand = ['x']\nproviders = []\nenv = { B = '{tokn:acme}' }\n",
            "agents.a.env.B: {tokn:acme} is no placeholder",
        ),
        (
            "[agent]\ncommand = ['x']\n[agents.a]\ncommand = ['x']\nproviders = []\n",
            "line 10, column 1: agent.command is for a single agent",
        ),
        (
            "[agent]\nproviders = []\n[agents.a]\ncommand = ['x']\n[agents.b]\ncommand = ['x']\n",
            "agent.default is required with several agents. Name one of: a, b",
        ),
        (
            "[agent]\nproviders = []\ndefault = 'codx'\n[agents.codex]\ncommand = ['x']\n",
            "line 11, column 1: agent.default: there is no table [agents.codx]; did you mean \"codex\"?",
        ),
        (
            "[agent]\ncommand = ['x']\nproviders = []\ndefault = 'a'\n",
            "agent.default names a table [agents.NAME], and there is none",
        ),
        ("[agents.'A B']\ncommand = ['x']\n", "is not an agent's name"),
    ] {
        let message = error(&format!("{ACME}\n{text}"), &[]);
        assert!(message.contains(problem), "{text}: {message}");
    }
}
