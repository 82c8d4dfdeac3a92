//! What can happen, as data: a sequence of these is drawn, run, and made shorter when it fails.
//!
//! A step that makes no sense where it stands (a caller gives up and nobody waits) does nothing, so that what is left of a
//! sequence after others were taken out is still a sequence.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, prop_oneof},
    sample::select,
};
use serde_json::{Value, json};

use crate::support::authserver::{Reply, Rotation};

/// How many processes share the store.
pub(super) const PROCESSES: usize = 3;

/// The longest life that anybody asks a token to have, in seconds.
pub(super) const LONGEST_MIN_TTL: i64 = 600;

const SCENES: usize = 30;

/// What is peculiar to a provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quirks {
    pub(super) name: &'static str,
    /// Of its access tokens, in seconds.
    pub(super) lifetime: i64,
    /// For so long, in seconds, it takes a spent refresh token again.
    pub(super) reuse_grace: i64,
    pub(super) refresh_revokes_access: bool,
}

/// The providers: one that rotates strictly, one with a grace and short-lived tokens, one that keeps its refresh tokens.
pub(super) const PROVIDERS: [Quirks; 3] = [
    Quirks { name: "strict", lifetime: 3600, reuse_grace: 0, refresh_revokes_access: false },
    Quirks { name: "graceful", lifetime: 300, reuse_grace: 30, refresh_revokes_access: false },
    Quirks { name: "plain", lifetime: 28_800, reuse_grace: 0, refresh_revokes_access: true },
];

/// The tenants: provider, principal, and the persons that may sign in for it.
pub(super) const TENANTS: [(usize, &str, &[&str]); 4] = [
    (0, "user:803", &["user:803"]),
    (0, "user:804", &["user:804"]),
    (1, "user:803", &["user:803"]),
    (2, "guild:7", &["user:803", "user:804"]),
];

/// The persons there are.
pub(super) const PERSONS: [&str; 2] = ["user:803", "user:804"];

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Callers in these processes (bits) ask at once.
    Get {
        tenant: usize,
        processes: u8,
        callers: u8,
        min_ttl: i64,
    },
    /// A caller that still waits gives up.
    GiveUp(usize),
    /// A resource refused a token.
    Reject {
        tenant: usize,
        process: usize,
        which: Which,
    },
    /// A sign-in from its start to its end.
    SignIn {
        tenant: usize,
        process: usize,
    },
    Start {
        tenant: usize,
        process: usize,
        person: usize,
    },
    Finish {
        tenant: usize,
        process: usize,
        person: usize,
        paste: Paste,
    },
    Cancel {
        process: usize,
        person: usize,
    },
    Logout {
        tenant: usize,
        process: usize,
        revoke: bool,
    },
    Status {
        process: usize,
    },
    /// How the provider answers its next request.
    Script {
        provider: usize,
        fault: Fault,
    },
    /// From now on the provider keeps its answers back, or its work.
    Hold {
        provider: usize,
        before: bool,
    },
    LetGo {
        provider: usize,
    },
    /// The third provider begins to rotate, or ceases.
    Rotate {
        strict: bool,
    },
    /// The clock goes on to where so much of the tenant's access token's life is over.
    Age {
        tenant: usize,
        percent: i64,
    },
    /// The tenant's access token ends, and callers in all processes ask at once.
    Rush {
        tenant: usize,
    },
    /// The clock steps, in seconds.
    Clock(i64),
    /// A process dies, whatever it is doing, and another takes its place.
    Restart {
        process: usize,
    },
    /// Another program writes fields of its own into the store.
    Plant,
}

/// Which token a resource refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Current,
    Before,
    Unknown,
}

/// What somebody pastes to finish a sign-in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paste {
    /// The address at which the newest link ends.
    Fresh,
    /// Only the code out of it.
    BareCode,
    /// The address with another `state`.
    WrongState,
    /// What was pasted last.
    Again,
}

/// How a provider answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Busy(u64),
    Status(u16),
    Html503,
    Drop,
    Malformed,
    Empty,
    RotatedAndLost,
    RotatedAndHalf,
    RotatedAnd500,
    RotatedWithoutToken,
    Verdict(u8),
    Misconfigured(u8),
    LifetimeAsText,
}

impl Fault {
    pub(super) fn reply(self) -> Reply {
        let raw = |body: &str| {
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            Reply::Raw { status: 200, headers, body: body.into() }
        };
        match self {
            Self::Busy(seconds) => Reply::Status(429).retry_after(seconds),
            Self::Status(status) => Reply::Status(status),
            Self::Html503 => Reply::Html503,
            Self::Drop => Reply::Drop,
            Self::Malformed => raw(r#"{"access_token":"cut off in the mid"#),
            Self::Empty => raw(""),
            Self::RotatedAndLost => Reply::RotateThenDrop,
            Self::RotatedAndHalf => Reply::HalfBody,
            Self::RotatedAnd500 => Reply::RotateThenStatus(500),
            Self::RotatedWithoutToken => Reply::Edit(|body| {
                body.as_object_mut().and_then(|members| members.remove("access_token"));
            }),
            Self::Verdict(shape) => verdict(shape),
            Self::Misconfigured(shape) => misconfigured(shape),
            Self::LifetimeAsText => Reply::Edit(|body| {
                if let Some(seconds) = body.get("expires_in").and_then(Value::as_u64) {
                    body["expires_in"] = json!(seconds.to_string());
                }
            }),
        }
    }
}

fn verdict(shape: u8) -> Reply {
    match shape % 4 {
        0 => Reply::Json(400, json!({"error": "invalid_grant"})),
        1 => Reply::Json(401, json!({"error": {"code": "refresh_token_reused", "type": "x"}})),
        2 => Reply::Json(401, json!({"error": {"code": "token_expired"}})),
        _ => Reply::Json(200, json!({"error": "bad_refresh_token"})),
    }
}

fn misconfigured(shape: u8) -> Reply {
    match shape % 3 {
        0 => Reply::Json(401, json!({"error": "invalid_client"})),
        1 => Reply::Json(400, json!({"error": "unauthorized_client"})),
        _ => Reply::Json(400, json!({"error": "invalid_scope"})),
    }
}

/// What the third provider does with refresh tokens.
pub(super) fn rotation(strict: bool) -> Rotation {
    if strict { Rotation::Strict } else { Rotation::Fixed }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => select(vec![5, 90, 4000]).prop_map(Fault::Busy),
        3 => select(vec![403, 408, 425, 500, 502, 503, 504]).prop_map(Fault::Status),
        1 => Just(Fault::Html503),
        2 => Just(Fault::Drop),
        1 => Just(Fault::Malformed),
        1 => Just(Fault::Empty),
        2 => Just(Fault::RotatedAndLost),
        1 => Just(Fault::RotatedAndHalf),
        1 => Just(Fault::RotatedAnd500),
        1 => Just(Fault::RotatedWithoutToken),
        2 => (0..4_u8).prop_map(Fault::Verdict),
        1 => (0..3_u8).prop_map(Fault::Misconfigured),
        1 => Just(Fault::LifetimeAsText),
    ]
}

fn paste() -> impl Strategy<Value = Paste> {
    prop_oneof![
        4 => Just(Paste::Fresh),
        1 => Just(Paste::BareCode),
        2 => Just(Paste::WrongState),
        3 => Just(Paste::Again),
    ]
}

fn clock() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => select(vec![1, 5, 29, 60, 91]),
        6 => select(vec![230, 300, 2700, 2790, 3300, 3590, 3600]),
        2 => select(vec![14_400, 28_800, -60, -3600]),
        1 => select(vec![-14_400, -400]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let tenant = || 0..TENANTS.len();
    let process = || 0..PROCESSES;
    let person = || 0..PERSONS.len();
    let provider = || 0..PROVIDERS.len();
    let which = select(vec![Which::Current, Which::Current, Which::Current, Which::Before, Which::Unknown]);
    prop_oneof![
        24 => (tenant(), 1..8_u8, 1..3_u8, select(vec![0, 60, 60, LONGEST_MIN_TTL])).prop_map(
            |(tenant, processes, callers, min_ttl)| Step::Get { tenant, processes, callers, min_ttl }
        ),
        3 => (0..8_usize).prop_map(Step::GiveUp),
        8 => (tenant(), process(), which)
            .prop_map(|(tenant, process, which)| Step::Reject { tenant, process, which }),
        6 => (tenant(), process()).prop_map(|(tenant, process)| Step::SignIn { tenant, process }),
        3 => (tenant(), process(), person())
            .prop_map(|(tenant, process, person)| Step::Start { tenant, process, person }),
        4 => (tenant(), process(), person(), paste()).prop_map(|(tenant, process, person, paste)| {
            Step::Finish { tenant, process, person, paste }
        }),
        1 => (process(), person()).prop_map(|(process, person)| Step::Cancel { process, person }),
        4 => (tenant(), process(), proptest::bool::ANY)
            .prop_map(|(tenant, process, revoke)| Step::Logout { tenant, process, revoke }),
        1 => process().prop_map(|process| Step::Status { process }),
        14 => (provider(), fault()).prop_map(|(provider, fault)| Step::Script { provider, fault }),
        5 => (provider(), proptest::bool::ANY)
            .prop_map(|(provider, before)| Step::Hold { provider, before }),
        7 => provider().prop_map(|provider| Step::LetGo { provider }),
        1 => proptest::bool::ANY.prop_map(|strict| Step::Rotate { strict }),
        9 => clock().prop_map(Step::Clock),
        9 => (tenant(), select(vec![75, 98, 100]))
            .prop_map(|(tenant, percent)| Step::Age { tenant, percent }),
        9 => tenant().prop_map(|tenant| Step::Rush { tenant }),
        4 => process().prop_map(|process| Step::Restart { process }),
        2 => Just(Step::Plant),
    ]
}

/// Steps that lead together to where promises are at stake; what comes before and after them is random.
fn scene() -> impl Strategy<Value = Vec<Step>> {
    let tenant = || 0..TENANTS.len();
    let process = || 0..PROCESSES;
    let ask = |tenant, process: usize| Step::Get { tenant, processes: 1 << process, callers: 1, min_ttl: 60 };
    let aged = |tenant, percent| Step::Age { tenant, percent };
    prop_oneof![
        14 => step().prop_map(|step| vec![step]),
        // What comes late, when somebody has logged out or signed in meanwhile.
        3 => (tenant(), proptest::option::of(fault()), process(), process(), 0..3_u8).prop_map(
            move |(tenant, fault, one, other, then)| {
                let provider = TENANTS[tenant].0;
                let fault = fault.map(|fault| Step::Script { provider, fault });
                let then = match then {
                    0 => Step::Logout { tenant, process: other, revoke: false },
                    1 => Step::Logout { tenant, process: other, revoke: true },
                    _ => Step::SignIn { tenant, process: other },
                };
                let before = [aged(tenant, 100), Step::Hold { provider, before: false }];
                let after = [ask(tenant, one), then, Step::LetGo { provider }];
                before.into_iter().chain(fault).chain(after).collect()
            }
        ),
        // Trouble before the token's end or at it, and people who ask on.
        3 => (tenant(), select(vec![75, 98, 100]), fault(), process(), select(vec![1, 5, 29, 91]), process())
            .prop_map(move |(tenant, percent, fault, one, later, other)| {
                let script = Step::Script { provider: TENANTS[tenant].0, fault };
                let asked = [ask(tenant, one), Step::Clock(later), ask(tenant, other), aged(tenant, 100)];
                let before = [aged(tenant, percent), script];
                before.into_iter().chain(asked).chain([ask(tenant, one)]).collect()
            }),
        // A token that a resource refuses, and again.
        1 => (tenant(), process(), process()).prop_map(move |(tenant, one, other)| {
            let which = Which::Current;
            let again = Step::Reject { tenant, process: other, which };
            vec![Step::Reject { tenant, process: one, which }, ask(tenant, other), again, ask(tenant, one)]
        }),
    ]
}

/// All sequences.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(scene(), 1..=SCENES).prop_map(|scenes| scenes.concat())
}
