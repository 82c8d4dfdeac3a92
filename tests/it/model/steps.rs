//! What can happen, as data: a sequence of these is drawn, run, and made shorter when it fails.
//!
//! A step that makes no sense where it stands (a caller gives up and nobody waits) does nothing, so that what is left of a
//! sequence after others were taken out is still a sequence.

use serde_json::{Value, json};

use crate::support::authserver::{Reply, Rotation};

/// How many processes share the store.
pub(super) const PROCESSES: usize = 3;

/// The longest life that anybody asks a token to have, in seconds.
pub(super) const LONGEST_MIN_TTL: i64 = 600;

/// What is peculiar to a provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quirks {
    pub(super) name: &'static str,
    /// Of its access tokens, in seconds.
    pub(super) lifetime: i64,
    /// For so long, in seconds, it takes a spent refresh token again.
    pub(super) reuse_grace: i64,
    pub(super) refresh_revokes_access: bool,
    /// Whether it says whose login it is to those who ask for that alone.
    pub(super) userinfo: bool,
}

/// The providers: one that rotates strictly, one with a grace and short-lived tokens, one that keeps its refresh tokens.
pub(super) const PROVIDERS: [Quirks; 3] = [
    Quirks { name: "strict", lifetime: 3600, reuse_grace: 0, refresh_revokes_access: false, userinfo: true },
    Quirks {
        name: "graceful",
        lifetime: 300,
        reuse_grace: 30,
        refresh_revokes_access: false,
        userinfo: true,
    },
    Quirks { name: "plain", lifetime: 28_800, reuse_grace: 0, refresh_revokes_access: true, userinfo: false },
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

/// The accounts at each provider. Everybody begins with the first.
pub(super) const ACCOUNTS: [&str; 3] = ["alice", "bob", "carol"];

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
        account: usize,
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
        account: usize,
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
    /// Somebody decides about a sign-in that waits for that.
    Choose {
        tenant: usize,
        process: usize,
        choice: Choice,
        named: Named,
    },
    /// A broker looks for sign-ins that nobody chose in their time.
    Lapse {
        process: usize,
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

/// What somebody wants to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The sign-in as another account.
    Switch,
    /// The session.
    Keep,
}

/// Which sign-in a choice names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    /// The one that waits.
    Waiting,
    /// One that waited before it, or the first session.
    Before,
    /// The session itself.
    Session,
    /// The one that waits for the next tenant's choice.
    Elsewhere,
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
    /// Without saying whose login it is.
    Nameless,
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
            Self::Nameless => Reply::Edit(|body| {
                body.as_object_mut().and_then(|members| members.remove("id_token"));
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
