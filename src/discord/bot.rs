//! What every part of the bot shares.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use super::{
    DiscordSettings,
    allow::AllowLists,
    asked::Asked,
    bounded::Bounded,
    buttons::Buttons,
    conversations::Conversations,
    people::{People, Waiting},
    rest::Rest,
    scrub::Scrubber,
    sign_ins::OpenSignIns,
    turns::Turns,
    wire::{Message, Response},
};
use crate::{agent::Workers, broker::Broker, ids::Snowflake, sys::clock::Clock};

/// How many events may be under way at once; more are dropped, and their people see that nothing answered.
const MAX_EVENTS: usize = 512;
/// How many one-time hints are remembered as given.
const MAX_HINTS: usize = 10_000;

/// The bot.
pub(super) struct Bot {
    pub(super) rest: Rest,
    pub(super) broker: Broker,
    pub(super) workers: Option<Workers>,
    pub(super) allow: AllowLists,
    /// Workers may use the server's sessions.
    pub(super) shared: bool,
    /// Our own user id.
    pub(super) me: Snowflake,
    pub(super) clock: Clock,
    pub(super) buttons: Buttons,
    pub(super) people: People,
    pub(super) open: OpenSignIns,
    pub(super) conversations: Conversations,
    pub(super) turns: Turns,
    pub(super) scrubber: Scrubber,
    /// Whom nothing has reached yet.
    pub(super) waiting: Waiting,
    /// Somebody has to be told that their session has ended.
    pub(super) notify: Notify,
    pub(super) shutdown: CancellationToken,
    /// Everything that runs for somebody.
    pub(super) tasks: TaskTracker,
    reads_content: AtomicBool,
    events: Semaphore,
    hints: Mutex<Bounded<(Snowflake, Snowflake), ()>>,
}

/// The parts that are made before the bot.
pub(super) struct Made {
    pub(super) rest: Rest,
    pub(super) me: Snowflake,
    pub(super) conversations: Conversations,
    pub(super) scrubber: Scrubber,
}

impl Bot {
    pub(super) fn new(
        settings: &DiscordSettings,
        made: Made,
        broker: Broker,
        workers: Option<Workers>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            rest: made.rest,
            broker,
            workers,
            allow: AllowLists::new(settings),
            shared: settings.shared,
            me: made.me,
            clock: Clock::system(),
            buttons: Buttons::new(),
            people: People::new(),
            open: OpenSignIns::new(),
            conversations: made.conversations,
            turns: Turns::new(),
            scrubber: made.scrubber,
            waiting: Waiting::default(),
            notify: Notify::new(),
            shutdown,
            tasks: TaskTracker::new(),
            reads_content: AtomicBool::new(true),
            events: Semaphore::new(MAX_EVENTS),
            hints: Mutex::new(Bounded::new(MAX_HINTS)),
        }
    }

    /// Whether Discord lets us read messages that do not mention us.
    pub(super) fn reads_content(&self) -> bool {
        self.reads_content.load(Ordering::Relaxed)
    }

    pub(super) fn set_reads_content(&self, reads: bool) {
        self.reads_content.store(reads, Ordering::Relaxed);
    }

    /// Runs what an event asks for, unless too much is under way.
    pub(super) async fn handle(&self, what: impl Future<Output = ()>) {
        let Ok(_permit) = self.events.try_acquire() else {
            warn!("{MAX_EVENTS} events from Discord are under way: one was dropped");
            return;
        };
        self.tasks.track_future(what).await;
    }

    /// Runs something on its own until the end.
    pub(super) fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(what);
    }

    /// Sends the first answer. `false` when it did not get through: then nobody waits for more.
    pub(super) async fn respond(&self, asked: &Asked, response: &Response) -> bool {
        match self.rest.respond(asked.id, &asked.token, response).await {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "an interaction could not be answered");
                false
            }
        }
    }

    /// Says something that only the person who asked sees, as the first answer.
    pub(super) async fn tell(&self, asked: &Asked, text: impl Into<String>) {
        self.respond(asked, &Response::Message(Message::text(text).ephemeral())).await;
    }

    /// Puts the answer in the place of a deferred one.
    pub(super) async fn finish(&self, asked: &Asked, message: &Message) {
        if let Err(error) = self.rest.edit_original(&asked.token, message).await {
            warn!(%error, "a deferred answer could not be given");
        }
    }

    /// Whether a hint is due for this pair; says yes once.
    pub(super) fn hint_is_due(&self, place: Snowflake, person: Snowflake) -> bool {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let due = hints.get(&(place, person)).is_none();
        if due {
            hints.insert((place, person), ());
        }
        due
    }
}

/// What a person is told when something of ours went wrong; what it was is in the log.
pub(super) fn trouble(what: &'static str, error: &dyn std::fmt::Display) -> Message {
    error!(%error, what, "something went wrong");
    Message::text(
        "Something went wrong here, and it has been written down for the operator. Nothing was lost: try again in a moment.",
    )
}

/// The bot, as tasks hold it.
pub(super) type Shared = Arc<Bot>;
