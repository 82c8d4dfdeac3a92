//! The possible steps, as data: a sequence of them is drawn, executed, and made shorter when it
//! fails.
//!
//! A step that makes no sense at its place (a caller gives up where none waits) does nothing. So a
//! sequence stays a sequence when steps are taken out of it.

use serde_json::{Value, json};

use crate::support::authserver::{Reply, Rotation};

/// The number of processes that share the store.
pub(super) const PROCESSES: usize = 3;

/// The longest remaining life that a caller requests, in seconds.
pub(super) const LONGEST_MIN_TTL: i64 = 600;

/// The peculiarities of a provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quirks {
    pub(super) name: &'static str,
    /// The lifetime of its access tokens, in seconds.
    pub(super) lifetime: i64,
    /// The time in which it accepts a spent refresh token again, in seconds.
    pub(super) reuse_grace: i64,
    pub(super) refresh_revokes_access: bool,
    /// Whether it has a userinfo endpoint that names the account.
    pub(super) userinfo: bool,
}

/// The providers: one rotates strictly, one has a grace and short-lived tokens, and one keeps its
/// refresh tokens.
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

/// The tenants: provider, principal, and the users that may sign in for it.
pub(super) const TENANTS: [(usize, &str, &[&str]); 4] = [
    (0, "user:803", &["user:803"]),
    (0, "user:804", &["user:804"]),
    (1, "user:803", &["user:803"]),
    (2, "guild:7", &["user:803", "user:804"]),
];

/// All users.
pub(super) const USERS: [&str; 2] = ["user:803", "user:804"];

/// The accounts at each provider. Every tenant starts with the first.
pub(super) const ACCOUNTS: [&str; 3] = ["alice", "bob", "carol"];

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Callers in these processes (bits) request a token at once.
    Get {
        tenant: usize,
        processes: u8,
        callers: u8,
        min_ttl: i64,
    },
    /// A waiting caller gives up.
    GiveUp(usize),
    /// A resource refused a token.
    Reject {
        tenant: usize,
        process: usize,
        which: Which,
    },
    /// A whole sign-in.
    SignIn {
        tenant: usize,
        process: usize,
        account: usize,
    },
    Start {
        tenant: usize,
        process: usize,
        user: usize,
    },
    Finish {
        tenant: usize,
        process: usize,
        user: usize,
        account: usize,
        paste: Paste,
        /// Whether the user acts in the server of the tenant.
        in_server: bool,
    },
    Cancel {
        process: usize,
        user: usize,
    },
    Logout {
        tenant: usize,
        process: usize,
        revoke: bool,
    },
    /// A user decides about a waiting sign-in.
    Choose {
        tenant: usize,
        process: usize,
        choice: Choice,
        named: Named,
    },
    /// A broker expires choices.
    ExpireChoices {
        process: usize,
    },
    Status {
        process: usize,
    },
    /// Sets the provider's answer to its next request.
    Script {
        provider: usize,
        fault: Fault,
    },
    /// From now on the provider holds its answers back, or its work.
    Hold {
        provider: usize,
        before: bool,
    },
    Release {
        provider: usize,
    },
    /// The third provider starts to rotate, or stops.
    Rotate {
        strict: bool,
    },
    /// The clock moves to this percentage of the life of the tenant's access token.
    Age {
        tenant: usize,
        percent: i64,
    },
    /// The tenant's access token expires, and callers in all processes request a token at once.
    Rush {
        tenant: usize,
    },
    /// The clock steps, in seconds.
    Clock(i64),
    /// A process dies, whatever it is doing, and another takes its place.
    Restart {
        process: usize,
    },
    /// Another program writes its own fields into the store.
    Plant,
}

/// The token that a resource refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Current,
    Before,
    Unknown,
}

/// The result of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The sign-in as another account becomes the session.
    Switch,
    /// The session stays.
    Keep,
}

/// The sign-in that a choice names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    /// The waiting one.
    Waiting,
    /// An earlier waiting one, or the first session.
    Before,
    /// The session itself.
    Session,
    /// The one that waits for the next tenant's choice.
    Elsewhere,
}

/// The text that a user pastes to finish a sign-in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paste {
    /// The address at which the newest link ends.
    Fresh,
    /// Only the code of that address.
    BareCode,
    /// The address with another `state`.
    WrongState,
    /// The previously pasted text.
    Again,
}

/// The fault in a provider's answer.
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
    /// The answer leaves the account out.
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

/// Returns the rotation of the third provider.
pub(super) fn rotation(strict: bool) -> Rotation {
    if strict { Rotation::Strict } else { Rotation::Fixed }
}
