//! The strategies that draw the steps: their frequency, and their combinations.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, prop_oneof},
    sample::select,
};

use super::steps::{
    ACCOUNTS, Choice, Fault, LONGEST_MIN_TTL, Named, PROCESSES, PROVIDERS, Paste, Step, TENANTS, USERS, Which,
};

/// The largest number of scenarios in one sequence.
const SCENARIOS: usize = 30;

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
        1 => Just(Fault::Nameless),
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

/// Draws the first account most often, so that most sign-ins become the session at once.
fn account() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 1..ACCOUNTS.len()]
}

fn choice() -> impl Strategy<Value = Choice> {
    select(vec![Choice::Switch, Choice::Keep])
}

fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        5 => Just(Named::Waiting),
        1 => Just(Named::Before),
        1 => Just(Named::Session),
        1 => Just(Named::Elsewhere),
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
    let user = || 0..USERS.len();
    let provider = || 0..PROVIDERS.len();
    let which = select(vec![Which::Current, Which::Current, Which::Current, Which::Before, Which::Unknown]);
    prop_oneof![
        24 => (tenant(), 1..8_u8, 1..3_u8, select(vec![0, 60, 60, LONGEST_MIN_TTL])).prop_map(
            |(tenant, processes, callers, min_ttl)| Step::Get { tenant, processes, callers, min_ttl }
        ),
        3 => (0..8_usize).prop_map(Step::GiveUp),
        8 => (tenant(), process(), which)
            .prop_map(|(tenant, process, which)| Step::Reject { tenant, process, which }),
        6 => (tenant(), process(), account())
            .prop_map(|(tenant, process, account)| Step::SignIn { tenant, process, account }),
        3 => (tenant(), process(), user())
            .prop_map(|(tenant, process, user)| Step::Start { tenant, process, user }),
        4 => (tenant(), process(), user(), account(), paste(), proptest::bool::weighted(0.8)).prop_map(
            |(tenant, process, user, account, paste, in_server)| {
                Step::Finish { tenant, process, user, account, paste, in_server }
            }
        ),
        1 => (process(), user()).prop_map(|(process, user)| Step::Cancel { process, user }),
        4 => (tenant(), process(), proptest::bool::ANY)
            .prop_map(|(tenant, process, revoke)| Step::Logout { tenant, process, revoke }),
        4 => (tenant(), process(), choice(), named()).prop_map(|(tenant, process, choice, named)| {
            Step::Choose { tenant, process, choice, named }
        }),
        1 => process().prop_map(|process| Step::ExpireChoices { process }),
        1 => process().prop_map(|process| Step::Status { process }),
        14 => (provider(), fault()).prop_map(|(provider, fault)| Step::Script { provider, fault }),
        5 => (provider(), proptest::bool::ANY)
            .prop_map(|(provider, before)| Step::Hold { provider, before }),
        7 => provider().prop_map(|provider| Step::Release { provider }),
        1 => proptest::bool::ANY.prop_map(|strict| Step::Rotate { strict }),
        9 => clock().prop_map(Step::Clock),
        9 => (tenant(), select(vec![75, 98, 100]))
            .prop_map(|(tenant, percent)| Step::Age { tenant, percent }),
        9 => tenant().prop_map(|tenant| Step::Rush { tenant }),
        4 => process().prop_map(|process| Step::Restart { process }),
        2 => Just(Step::Plant),
    ]
}

/// Draws seconds around the expiry of a choice (a quarter of an hour), and around its removal ten
/// minutes later.
fn choice_expiry() -> impl Strategy<Value = i64> {
    select(vec![1, 600, 899, 900, 901, 1499, 1500, 3600, -60, -1000])
}

/// An event of a tenant while a sign-in waits for a choice.
#[derive(Clone, Debug)]
enum WhileUndecided {
    TokenExpired,
    TokenRejected,
    SignedIn(usize),
    ProcessDied,
    RefreshFault(Fault),
    StatusRead,
    ClockMoved(i64),
}

fn while_undecided() -> impl Strategy<Value = WhileUndecided> {
    prop_oneof![
        3 => Just(WhileUndecided::TokenExpired),
        1 => Just(WhileUndecided::TokenRejected),
        2 => (0..ACCOUNTS.len()).prop_map(WhileUndecided::SignedIn),
        2 => Just(WhileUndecided::ProcessDied),
        2 => fault().prop_map(WhileUndecided::RefreshFault),
        1 => Just(WhileUndecided::StatusRead),
        2 => choice_expiry().prop_map(WhileUndecided::ClockMoved),
    ]
}

impl WhileUndecided {
    fn of(self, tenant: usize, process: usize) -> Vec<Step> {
        match self {
            Self::TokenExpired => vec![Step::Rush { tenant }],
            Self::TokenRejected => vec![Step::Reject { tenant, process, which: Which::Current }],
            Self::SignedIn(account) => vec![Step::SignIn { tenant, process, account }],
            Self::ProcessDied => vec![Step::Restart { process }],
            Self::RefreshFault(fault) => {
                vec![Step::Script { provider: TENANTS[tenant].0, fault }, Step::Rush { tenant }]
            }
            Self::StatusRead => vec![Step::Status { process }],
            Self::ClockMoved(seconds) => vec![Step::Clock(seconds)],
        }
    }
}

/// Draws another account of a sign-in, and whether the answer leaves it out.
fn other_account() -> impl Strategy<Value = (usize, bool)> {
    (1..ACCOUNTS.len(), proptest::bool::weighted(0.2))
}

/// Often another program writes fields into the waiting sign-in.
fn planted() -> impl Strategy<Value = Option<Step>> {
    proptest::option::of(Just(Step::Plant))
}

/// The decision on a waiting sign-in.
#[derive(Clone, Debug)]
enum Decision {
    Chosen(Choice, Named),
    LoggedOut(bool),
    /// A broker expires choices after so many seconds.
    Expired(i64),
}

fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        6 => (choice(), named()).prop_map(|(choice, named)| Decision::Chosen(choice, named)),
        1 => proptest::bool::ANY.prop_map(Decision::LoggedOut),
        2 => choice_expiry().prop_map(Decision::Expired),
    ]
}

impl Decision {
    fn of(self, tenant: usize, process: usize) -> Vec<Step> {
        match self {
            Self::Chosen(choice, named) => vec![Step::Choose { tenant, process, choice, named }],
            Self::LoggedOut(revoke) => vec![Step::Logout { tenant, process, revoke }],
            Self::Expired(after) => {
                let look = Step::ExpireChoices { process };
                vec![look.clone(), Step::Clock(after), look]
            }
        }
    }
}

/// Draws steps that together put promises at stake; the steps before and after them are random.
fn scenario() -> impl Strategy<Value = Vec<Step>> {
    let tenant = || 0..TENANTS.len();
    let process = || 0..PROCESSES;
    let get = |tenant, process: usize| Step::Get { tenant, processes: 1 << process, callers: 1, min_ttl: 60 };
    let aged = |tenant, percent| Step::Age { tenant, percent };
    prop_oneof![
        14 => step().prop_map(|step| vec![step]),
        // A late result, after a logout or a new sign-in.
        3 => (tenant(), proptest::option::of(fault()), process(), process(), 0..4_u8).prop_map(
            move |(tenant, fault, one, other, then)| {
                let provider = TENANTS[tenant].0;
                let fault = fault.map(|fault| Step::Script { provider, fault });
                let then = match then {
                    0 => Step::Logout { tenant, process: other, revoke: false },
                    1 => Step::Logout { tenant, process: other, revoke: true },
                    2 => Step::SignIn { tenant, process: other, account: 0 },
                    _ => Step::SignIn { tenant, process: other, account: 1 },
                };
                let before = [aged(tenant, 100), Step::Hold { provider, before: false }];
                let after = [get(tenant, one), then, Step::Release { provider }];
                before.into_iter().chain(fault).chain(after).collect()
            }
        ),
        // A sign-in as another account, events while it waits, and the decision on it.
        3 => (tenant(), process(), other_account(), planted(), vec(while_undecided(), 0..3), decision(), process())
            .prop_map(move |(tenant, one, (account, nameless), planted, while_undecided, decision, other)| {
                let provider = TENANTS[tenant].0;
                let nameless = nameless.then_some(Step::Script { provider, fault: Fault::Nameless });
                let sign_in = Step::SignIn { tenant, process: one, account };
                let while_undecided = while_undecided.into_iter().flat_map(|step| step.of(tenant, other));
                let decided = decision.of(tenant, other).into_iter().chain([get(tenant, one)]);
                nameless.into_iter().chain([sign_in]).chain(planted).chain(while_undecided).chain(decided).collect()
            }),
        // A late refresh, after its user has made a choice.
        1 => (tenant(), process(), process(), choice()).prop_map(move |(tenant, one, other, choice)| {
            let provider = TENANTS[tenant].0;
            let chosen = Step::Choose { tenant, process: other, choice, named: Named::Waiting };
            let sign_in = Step::SignIn { tenant, process: other, account: 1 };
            let held = [aged(tenant, 100), Step::Hold { provider, before: false }, get(tenant, one)];
            let after = [chosen, Step::Release { provider }];
            std::iter::once(sign_in).chain(held).chain(after).collect()
        }),
        // Two users who do not choose.
        1 => (tenant(), tenant(), process(), choice_expiry()).prop_map(|(one, other, process, seconds)| {
            let sign_in = [one, other].map(|tenant| Step::SignIn { tenant, process, account: 1 });
            let look = Step::ExpireChoices { process };
            sign_in.into_iter().chain([look.clone(), Step::Clock(seconds), look]).collect()
        }),
        // A failure before the token's expiry or at it, and callers that try again.
        3 => (tenant(), select(vec![75, 98, 100]), fault(), process(), select(vec![1, 5, 29, 91]), process())
            .prop_map(move |(tenant, percent, fault, one, later, other)| {
                let script = Step::Script { provider: TENANTS[tenant].0, fault };
                let calls = [get(tenant, one), Step::Clock(later), get(tenant, other), aged(tenant, 100)];
                let before = [aged(tenant, percent), script];
                before.into_iter().chain(calls).chain([get(tenant, one)]).collect()
            }),
        // A token that a resource refuses, twice.
        1 => (tenant(), process(), process()).prop_map(move |(tenant, one, other)| {
            let which = Which::Current;
            let again = Step::Reject { tenant, process: other, which };
            vec![Step::Reject { tenant, process: one, which }, get(tenant, other), again, get(tenant, one)]
        }),
    ]
}

/// Draws a whole sequence.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(scenario(), 1..=SCENARIOS).prop_map(|scenarios| scenarios.concat())
}
