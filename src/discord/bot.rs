//! The state that all parts of the bot share.

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
    acting_managers::ActingManagers,
    bounded_map::BoundedMap,
    buttons::Buttons,
    conversations::Conversations,
    has_agents::HasAgents,
    held_prompts::HeldPrompts,
    interaction::Interaction,
    interaction_tokens::InteractionTokens,
    questions::SignInQuestions,
    rest::Rest,
    rights::Rights,
    running_turns::RunningTurns,
    sign_in::OpenMessages,
    unreached_users::UnreachedUsers,
    wire::{Message, Response},
};
use crate::{
    agent::{Conversation, Workers},
    broker::Broker,
    ids::Snowflake,
    secret::Scrubber,
    sys::clock::Clock,
};

/// The number of events that may run at once. Further ones are dropped, and their users see an
/// interaction without an answer.
const MAX_EVENTS: usize = 512;
/// The number of one-time hints whose delivery is remembered.
const MAX_HINTS: usize = 10_000;

/// The bot, as tasks hold it.
pub(super) type BotHandle = Arc<Bot>;

/// The bot.
pub(super) struct Bot {
    pub(super) rest: Arc<Rest>,
    pub(super) broker: Broker,
    pub(super) workers: Option<Workers>,
    pub(super) rights: Rights,
    /// The channel for reports about shared logins.
    pub(super) log_channel: Option<Snowflake>,
    /// Workers may use the server's sessions.
    pub(super) guild_sessions: bool,
    /// The bot's own user id.
    pub(super) own_id: Snowflake,
    pub(super) clock: Clock,
    pub(super) buttons: Buttons,
    pub(super) tokens: InteractionTokens,
    pub(super) open_messages: OpenMessages,
    pub(super) held_prompts: HeldPrompts,
    pub(super) questions: SignInQuestions,
    pub(super) acting_managers: ActingManagers,
    pub(super) conversations: Arc<Conversations>,
    pub(super) running_turns: RunningTurns,
    pub(super) scrubber: Scrubber,
    /// Users whom no notice of an ended session has reached yet.
    pub(super) unreached: UnreachedUsers,
    /// Notified when a user may have to be notified of an ended session.
    pub(super) notice_due: Notify,
    pub(super) shutdown: CancellationToken,
    /// All tasks that a shutdown waits for.
    pub(super) tasks: TaskTracker,
    reads_content: AtomicBool,
    events: Semaphore,
    hints: Mutex<BoundedMap<(Snowflake, Snowflake), ()>>,
}

/// The parts that exist before the bot.
pub(super) struct BotParts {
    pub(super) rest: Arc<Rest>,
    pub(super) rights: Rights,
    pub(super) own_id: Snowflake,
    pub(super) conversations: Arc<Conversations>,
    pub(super) scrubber: Scrubber,
    pub(super) questions: SignInQuestions,
}

impl Bot {
    pub(super) fn new(
        settings: &DiscordSettings,
        parts: BotParts,
        broker: Broker,
        workers: Option<Workers>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            rest: parts.rest,
            broker,
            workers,
            rights: parts.rights,
            log_channel: settings.log_channel,
            guild_sessions: settings.guild_sessions,
            own_id: parts.own_id,
            clock: Clock::system(),
            buttons: Buttons::new(),
            tokens: InteractionTokens::new(),
            open_messages: OpenMessages::new(),
            held_prompts: HeldPrompts::default(),
            questions: parts.questions,
            acting_managers: ActingManagers::new(),
            conversations: parts.conversations,
            running_turns: RunningTurns::new(),
            scrubber: parts.scrubber,
            unreached: UnreachedUsers::default(),
            notice_due: Notify::new(),
            shutdown,
            tasks: TaskTracker::new(),
            reads_content: AtomicBool::new(true),
            events: Semaphore::new(MAX_EVENTS),
            hints: Mutex::new(BoundedMap::new(MAX_HINTS)),
        }
    }

    /// Whether users may choose among agents.
    pub(super) fn agent_choice(&self) -> HasAgents {
        let has_names =
            self.workers.as_ref().is_some_and(|workers| workers.agents().names().next().is_some());
        if has_names { HasAgents::Several } else { HasAgents::One }
    }

    /// Returns the name of a conversation's agent for its messages.
    pub(super) fn agent_title(&self, conversation: &Conversation) -> String {
        self.workers.as_ref().map(|workers| workers.agent_title(conversation)).unwrap_or_default()
    }

    /// Whether Discord sends the content of messages that do not mention the bot.
    pub(super) fn reads_content(&self) -> bool {
        self.reads_content.load(Ordering::Relaxed)
    }

    pub(super) fn set_reads_content(&self, reads: bool) {
        self.reads_content.store(reads, Ordering::Relaxed);
    }

    /// Runs the handler of an event, unless too many are running.
    pub(super) async fn handle(&self, handler: impl Future<Output = ()>) {
        let Ok(_permit) = self.events.try_acquire() else {
            warn!("{MAX_EVENTS} events from Discord are being handled: dropped one more");
            return;
        };
        self.tasks.track_future(handler).await;
    }

    /// Runs a task of its own, which a shutdown waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Sends the first answer. Returns `false` when it failed: the user then waits for no more.
    pub(super) async fn respond(&self, interaction: &Interaction, response: &Response) -> bool {
        match self.rest.respond(interaction.id, &interaction.token, response).await {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "cannot answer an interaction");
                false
            }
        }
    }

    /// Sends a text as the first answer, visible to its user alone.
    pub(super) async fn reply(&self, interaction: &Interaction, text: impl Into<String>) {
        self.respond(interaction, &Response::Message(Message::text(text).ephemeral())).await;
    }

    /// Acknowledges with an answer that follows later and is visible to its user alone. Remembers
    /// the interaction token. Returns `false` when the acknowledgement failed.
    pub(super) async fn defer(&self, interaction: &Interaction) -> bool {
        let acknowledged = self.respond(interaction, &Response::Deferred).await;
        if acknowledged {
            self.tokens.remember(interaction.user, interaction.token.clone());
        }
        acknowledged
    }

    /// Replaces the first answer, usually a deferred one.
    pub(super) async fn edit_reply(&self, interaction: &Interaction, message: &Message) {
        if let Err(error) = self.rest.edit_original(&interaction.token, message).await {
            warn!(%error, "cannot send a deferred answer");
        }
    }

    /// Whether this user has not seen the hint in this channel yet. Returns `true` once for each
    /// pair.
    pub(super) fn hint_is_due(&self, channel: Snowflake, user: Snowflake) -> bool {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let due = hints.get(&(channel, user)).is_none();
        if due {
            hints.insert((channel, user), ());
        }
        due
    }
}

/// Logs a failure that the operator has to mend, and returns the message for the user, which does
/// not repeat the error.
pub(super) fn internal_error(action: &'static str, error: &dyn std::fmt::Display) -> Message {
    error!(%error, action, "an action for a Discord user failed");
    Message::text(
        "Something went wrong here, and it is in the log for my operator. Nothing was lost: try again in a moment.",
    )
}
