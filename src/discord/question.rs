//! The record of a question to an owner, and the decision whether to ask again.
//!
//! An owner has one question for each provider, whichever of their agents asks. So the record is keyed by
//! the owner's tenant. It is in `conversations.json`, and its buttons have random ids as all buttons. A
//! press after a restart finds its question there.
//!
//! The limits keep an agent from nagging:
//! - A question is not sent again within [`STANDS`]. Requests of that time join it, from any thread.
//! - After a refusal no agent asks for this provider within [`STANDS`].
//! - One conversation sends at most [`MAX_OF_CONVERSATION`] questions within [`STANDS`].

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    broker::OwnerRefusal,
    ids::{IdError, Lineage, Principal, Snowflake, Tenant},
    sys::{clock::UnixTime, random},
};

/// The time for which a question or a refusal stands.
pub(super) const STANDS: UnixTime = 60 * 60;
/// The number of questions that one conversation sends within [`STANDS`].
pub(super) const MAX_OF_CONVERSATION: usize = 4;
/// The number of questions that are remembered. Beyond it the oldest are forgotten.
const MAX: usize = 1_000;

/// The questions, by the tenant whose sign-in they are about.
pub(super) type Questions = BTreeMap<Tenant, Question>;

/// A question to the owner of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The conversation whose agent asked first.
    pub(super) conversation: Snowflake,
    /// The name of that agent, as the operator's configuration has it.
    pub(super) agent: String,
    pub(super) asked_at: UnixTime,
    /// The session that serves no token, if there was one.
    pub(super) seen: Option<Lineage>,
    /// The custom_id of the button that starts the sign-in.
    pub(super) sign_in: String,
    /// The custom_id of the button that declines.
    pub(super) decline: String,
    /// Whether the message has reached Discord.
    pub(super) is_sent: bool,
    /// The channel and the id of the message, if the bot can edit it.
    pub(super) message: Option<(Snowflake, Snowflake)>,
    pub(super) refused: Option<Refused>,
}

/// The refusal of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) at: UnixTime,
    /// The access was denied at the provider, and not by the button.
    pub(super) by_provider: bool,
}

/// The next step of an agent's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// The open question serves this request too.
    Join,
    /// The question is recorded, and may not have reached Discord.
    Send,
    /// There is no question that stands.
    Ask,
}

impl Question {
    /// A question that is not sent yet.
    pub(super) fn new(
        conversation: Snowflake,
        agent: String,
        asked_at: UnixTime,
        seen: Option<Lineage>,
    ) -> Self {
        let (sign_in, decline) = (random::token(), random::token());
        Self {
            conversation,
            agent,
            asked_at,
            seen,
            sign_in,
            decline,
            is_sent: false,
            message: None,
            refused: None,
        }
    }
}

impl Refused {
    /// Returns the error of the requests that this refuses.
    pub(super) fn error(self) -> OwnerRefusal {
        if self.by_provider { OwnerRefusal::DeniedByProvider } else { OwnerRefusal::Declined }
    }
}

/// Whether a moment lies within [`STANDS`]. One in the future, by a clock that was set back, does not: no
/// clock keeps an owner from being asked.
fn stands(at: UnixTime, now: UnixTime) -> bool {
    (at..at.saturating_add(STANDS)).contains(&now)
}

/// Decides about a request of an agent in `conversation` for the sign-in at `tenant`.
pub(super) fn next_step(
    all: &Questions,
    tenant: &Tenant,
    conversation: Snowflake,
    now: UnixTime,
) -> Result<NextStep, OwnerRefusal> {
    match all.get(tenant) {
        Some(Question { refused: Some(refused), .. }) if stands(refused.at, now) => {
            return Err(refused.error());
        }
        Some(Question { refused: None, asked_at, is_sent, .. }) if stands(*asked_at, now) => {
            return Ok(if *is_sent { NextStep::Join } else { NextStep::Send });
        }
        _ => {}
    }
    let recent = all.values().filter(|one| one.conversation == conversation && stands(one.asked_at, now));
    let recent: Vec<UnixTime> = recent.map(|one| one.asked_at).collect();
    match recent.iter().min() {
        Some(first) if recent.len() >= MAX_OF_CONVERSATION => {
            let left = first.saturating_add(STANDS).saturating_sub(now);
            let retry_after = Duration::from_secs(left.try_into().unwrap_or(0));
            Err(OwnerRefusal::TooMany { retry_after })
        }
        _ => Ok(NextStep::Ask),
    }
}

/// Records a question. Forgets refusals that stand no longer, and the oldest questions beyond [`MAX`].
pub(super) fn record(all: &mut Questions, tenant: Tenant, question: Question, now: UnixTime) {
    all.retain(|_, one| one.refused.is_none_or(|refused| stands(refused.at, now)));
    all.insert(tenant, question);
    while all.len() > MAX {
        let oldest = all.iter().min_by_key(|(_, one)| one.asked_at).map(|(tenant, _)| tenant.clone());
        match oldest {
            Some(oldest) => all.remove(&oldest),
            None => break,
        };
    }
}

// === the file ===

/// A question in the file. Its ids are strings, as in Discord's own JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredQuestion {
    conversation: String,
    agent: String,
    asked_at: UnixTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    sign_in: String,
    decline: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_sent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused_at: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused_by_provider: bool,
}

/// Reads a question of the file.
pub(super) fn parse((tenant, stored): (&String, &StoredQuestion)) -> Result<(Tenant, Question), String> {
    let id = |text: &String| text.parse::<Snowflake>().map_err(|error| error.to_string());
    let tenant: Tenant = tenant.parse().map_err(|error: IdError| error.to_string())?;
    if !matches!(tenant.principal, Principal::User(_)) {
        return Err(format!("has a question about {tenant}, which is no user's"));
    }
    let seen = stored.seen.as_ref().map(|seen| seen.parse::<Lineage>());
    let message = stored.channel.as_ref().zip(stored.message.as_ref());
    let question = Question {
        conversation: id(&stored.conversation)?,
        agent: stored.agent.clone(),
        asked_at: stored.asked_at,
        seen: seen.transpose().map_err(|error| error.to_string())?,
        sign_in: stored.sign_in.clone(),
        decline: stored.decline.clone(),
        is_sent: stored.is_sent,
        message: message
            .map(|(channel, message)| Ok::<_, String>((id(channel)?, id(message)?)))
            .transpose()?,
        refused: stored.refused_at.map(|at| Refused { at, by_provider: stored.refused_by_provider }),
    };
    Ok((tenant, question))
}

/// Returns a question as the file has it.
pub(super) fn stored((tenant, question): (&Tenant, &Question)) -> (String, StoredQuestion) {
    let (channel, message) = question.message.unzip();
    let stored = StoredQuestion {
        conversation: question.conversation.to_string(),
        agent: question.agent.clone(),
        asked_at: question.asked_at,
        seen: question.seen.map(|seen| seen.to_string()),
        sign_in: question.sign_in.clone(),
        decline: question.decline.clone(),
        is_sent: question.is_sent,
        channel: channel.map(|channel| channel.to_string()),
        message: message.map(|message| message.to_string()),
        refused_at: question.refused.map(|refused| refused.at),
        refused_by_provider: question.refused.is_some_and(|refused| refused.by_provider),
    };
    (tenant.to_string(), stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_795_358_672;
    const THREAD: Snowflake = Snowflake(10);

    fn tenant(name: &str) -> Tenant {
        format!("{name}/user:5").parse().expect("a tenant")
    }

    fn sent(asked_at: UnixTime) -> Question {
        Question { is_sent: true, ..Question::new(THREAD, "codex".into(), asked_at, None) }
    }

    #[test]
    fn a_question_stands_for_an_hour_and_serves_every_conversation() {
        let all: Questions = [(tenant("acme"), sent(NOW))].into();
        let step = |conversation, now| next_step(&all, &tenant("acme"), Snowflake(conversation), now);
        for conversation in [10, 11] {
            assert_eq!(step(conversation, NOW + STANDS - 1), Ok(NextStep::Join));
            assert_eq!(step(conversation, NOW + STANDS), Ok(NextStep::Ask));
        }
        assert_eq!(step(10, NOW - 4 * STANDS), Ok(NextStep::Ask), "the clock was set back");
        let unsent: Questions = [(tenant("acme"), Question { is_sent: false, ..sent(NOW) })].into();
        assert_eq!(next_step(&unsent, &tenant("acme"), THREAD, NOW), Ok(NextStep::Send));
    }

    #[test]
    fn a_refusal_stands_for_an_hour_from_its_own_moment() {
        for by_provider in [false, true] {
            let refused = Refused { at: NOW + 3000, by_provider };
            let all: Questions = [(tenant("acme"), Question { refused: Some(refused), ..sent(NOW) })].into();
            let step = |now| next_step(&all, &tenant("acme"), Snowflake(11), now);
            assert_eq!(step(NOW + 3000 + STANDS - 1), Err(refused.error()));
            assert_eq!(step(NOW + 3000 + STANDS), Ok(NextStep::Ask));
        }
    }

    #[test]
    fn one_conversation_sends_four_questions_an_hour_and_others_still_ask() {
        let names = ["a", "b", "c", "d"];
        let all: Questions =
            names.iter().zip(0..).map(|(name, n)| (tenant(name), sent(NOW + n * 60))).collect();
        let step = |conversation, now| next_step(&all, &tenant("e"), Snowflake(conversation), now);
        let retry_after = Duration::from_secs(3300);
        assert_eq!(step(10, NOW + 300), Err(OwnerRefusal::TooMany { retry_after }));
        assert_eq!(step(11, NOW + 300), Ok(NextStep::Ask));
        assert_eq!(step(10, NOW + STANDS), Ok(NextStep::Ask));
    }

    #[test]
    fn the_number_of_questions_is_bounded_and_the_oldest_is_forgotten() {
        let mut all = Questions::new();
        for n in 0..=MAX {
            record(&mut all, tenant(&format!("p{n}")), sent(NOW + n as i64), NOW);
        }
        assert_eq!(all.len(), MAX);
        assert!(!all.contains_key(&tenant("p0")) && all.contains_key(&tenant("p1")));
    }
}
