//! The durable map of the bot's conversations: each thread with its owner, and the random names of
//! their agents' folders. Discord itself names the bot as the thread's owner. The file also holds the
//! shared logins that were reported last, and the questions to owners.
//!
//! A file that cannot be read or parsed is refused and never overwritten. The map is bounded: the
//! oldest conversations are forgotten, and their threads are then like any other thread.

use std::{collections::BTreeMap, io, path::PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::question::{self, Question, Questions, StoredQuestion};
use crate::{
    agent::{FolderNames, is_folder_name},
    ids::{AgentName, IdError, Lineage, Snowflake, Tenant},
    sys::{clock::UnixTime, files},
};

/// The number of conversations that are remembered.
const MAX: usize = 10_000;
/// The version of the file format that is written.
const VERSION: u64 = 2;
/// The first version, which is read as well. It has no folders.
const FIRST_VERSION: u64 = 1;

/// The owner, the origin and the agent of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) owner: Snowflake,
    pub(super) guild: Snowflake,
    /// The channel of the thread.
    pub(super) parent: Snowflake,
    pub(super) created_at: UnixTime,
    /// The agent that the owner has chosen, or `None` for the default one.
    pub(super) agent: Option<AgentName>,
}

/// The file. Its ids are strings, as in Discord's own JSON.
#[derive(Serialize, Deserialize)]
struct File {
    version: u64,
    conversations: BTreeMap<String, StoredRecord>,
    #[serde(default)]
    folders: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    direct_agents: BTreeMap<String, String>,
    /// Absent until a bot has looked at the shared logins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_logins: Option<BTreeMap<String, StoredLogin>>,
    /// The questions to owners, by tenant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    questions: BTreeMap<String, StoredQuestion>,
}

#[derive(Serialize, Deserialize)]
struct StoredLogin {
    lineage: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_ended: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredRecord {
    owner: String,
    guild: String,
    parent: String,
    created_at: UnixTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Maps {
    records: BTreeMap<Snowflake, Record>,
    /// The names of the agents' folders, by `<conversation>-<owner>`.
    folders: BTreeMap<String, String>,
    /// The agents that users have chosen for their direct messages, by channel.
    direct_agents: BTreeMap<Snowflake, AgentName>,
    reported: Option<ReportedLogins>,
    questions: Questions,
}

/// The shared logins that were reported last.
pub(super) type ReportedLogins = BTreeMap<Tenant, ReportedLogin>;

/// The state of a shared login that was reported last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportedLogin {
    /// The grant in use.
    pub(super) lineage: Lineage,
    /// The grant that waits for a choice.
    pub(super) candidate: Option<Lineage>,
    /// Whether the provider has ended the grant in use.
    pub(super) has_ended: bool,
}

/// The map of conversations cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {detail}", path = path.display())]
pub struct ConversationsError {
    /// The file.
    pub path: PathBuf,
    /// The error, and the way to mend it.
    pub detail: String,
}

/// See the module.
#[derive(Debug)]
pub struct Conversations {
    path: PathBuf,
    maps: std::sync::RwLock<Maps>,
    /// Held while the file is written, so that the newest state is written last.
    writing: Mutex<()>,
}

impl Conversations {
    /// Reads the file, if it exists. Creates its folder, so that the first conversation can be
    /// recorded.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn load(path: PathBuf) -> Result<Self, ConversationsError> {
        if let Some(folder) = path.parent()
            && let Err(error) = files::create_private_folder(folder)
        {
            let detail =
                format!("cannot create its folder ({error}); create it for the user that runs threadkey");
            return Err(ConversationsError { path, detail });
        }
        let maps = match files::read_text(&path) {
            Ok(text) => parse(&text).map_err(|detail| ConversationsError {
                path: path.clone(),
                detail: format!(
                    "{detail}. Nothing was changed; repair the file, or move it away to start with an empty map"
                ),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Maps::default(),
            Err(error) => {
                return Err(ConversationsError {
                    path,
                    detail: format!(
                        "cannot be read ({error}); make it a text file that threadkey may read"
                    ),
                });
            }
        };
        Ok(Self { path, maps: std::sync::RwLock::new(maps), writing: Mutex::new(()) })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns the record of a thread, if it is a conversation of the bot.
    pub(super) fn get(&self, thread: Snowflake) -> Option<Record> {
        self.read().records.get(&thread).cloned()
    }

    /// Returns the newest thread of a user.
    pub(super) fn newest_of(&self, owner: Snowflake) -> Option<(Snowflake, Record)> {
        let maps = self.read();
        let own = maps.records.iter().filter(|(_, record)| record.owner == owner);
        own.max_by_key(|(id, record)| (record.created_at, **id)).map(|(id, record)| (*id, record.clone()))
    }

    /// Records a new conversation. The map has it once it is on disk.
    pub(super) async fn insert(&self, thread: Snowflake, record: Record) -> io::Result<()> {
        self.change(|maps| {
            let records = &mut maps.records;
            records.insert(thread, record);
            while records.len() > MAX {
                let oldest = records.iter().min_by_key(|(id, record)| (record.created_at, **id));
                match oldest.map(|(id, _)| *id) {
                    Some(id) => records.remove(&id),
                    None => break,
                };
            }
        })
        .await
    }

    /// Returns the agent that a user has chosen for their direct messages.
    pub(super) fn direct_agent(&self, channel: Snowflake) -> Option<AgentName> {
        self.read().direct_agents.get(&channel).cloned()
    }

    /// Records the agent of a conversation: of a thread in the map, or else of direct messages.
    pub(super) async fn set_agent(&self, channel: Snowflake, agent: AgentName) -> io::Result<()> {
        self.change(|maps| match maps.records.get_mut(&channel) {
            Some(record) => record.agent = Some(agent),
            None => {
                maps.direct_agents.insert(channel, agent);
                while maps.direct_agents.len() > MAX {
                    maps.direct_agents.pop_first();
                }
            }
        })
        .await
    }

    /// Returns the shared logins that were reported last; `None` before the first look at them.
    pub(super) fn reported_logins(&self) -> Option<ReportedLogins> {
        self.read().reported.clone()
    }

    /// Records the shared logins that are reported.
    pub(super) async fn record_reported_logins(&self, logins: ReportedLogins) -> io::Result<()> {
        self.change(|maps| maps.reported = Some(logins)).await
    }

    /// Returns the questions to owners.
    pub(super) fn questions(&self) -> Questions {
        self.read().questions.clone()
    }

    /// Returns the question with this button.
    pub(super) fn question_of(&self, custom_id: &str) -> Option<(Tenant, Question)> {
        let maps = self.read();
        let found = maps
            .questions
            .iter()
            .find(|(_, one)| [&one.sign_in, &one.decline].iter().any(|id| *id == custom_id));
        found.map(|(tenant, question)| (tenant.clone(), question.clone()))
    }

    /// Changes the questions to owners durably. After an error they are as they were.
    pub(super) async fn change_questions(&self, change: impl FnOnce(&mut Questions)) -> io::Result<()> {
        self.change(|maps| change(&mut maps.questions)).await
    }

    /// Changes the map durably. After an error it is as it was.
    async fn change(&self, change: impl FnOnce(&mut Maps)) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        let mut next = self.read().clone();
        change(&mut next);
        let (path, bytes) = (self.path.clone(), render(&next));
        tokio::task::spawn_blocking(move || files::replace_private(&path, &bytes))
            .await
            .map_err(io::Error::other)??;
        *self.maps.write().unwrap_or_else(std::sync::PoisonError::into_inner) = next;
        Ok(())
    }
}

#[async_trait]
impl FolderNames for Conversations {
    fn all(&self) -> Vec<(String, String)> {
        self.read().folders.iter().map(|(key, name)| (key.clone(), name.clone())).collect()
    }

    fn get(&self, key: &str) -> Option<String> {
        self.read().folders.get(key).cloned()
    }

    async fn record(&self, names: Vec<(String, String)>) -> io::Result<()> {
        self.change(|maps| maps.folders.extend(names)).await
    }

    async fn forget(&self, names: Vec<String>) -> io::Result<()> {
        self.change(|maps| maps.folders.retain(|_, name| !names.contains(name))).await
    }
}

fn parse(text: &str) -> Result<Maps, String> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("is not JSON (line {}, column {})", error.line(), error.column()))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(FIRST_VERSION | VERSION) => {}
        Some(other) => {
            return Err(format!("has format version {other}, and this threadkey reads at most {VERSION}"));
        }
        None => return Err("has no format version".to_owned()),
    }
    let file: File =
        serde_json::from_value(value).map_err(|error| format!("is not a map of conversations ({error})"))?;
    let id = |text: &str| text.parse::<Snowflake>().map_err(|error| error.to_string());
    let agent = |text: &str| text.parse::<AgentName>().map_err(|error| error.to_string());
    if let Some((key, name)) = file.folders.iter().find(|(_, name)| !is_folder_name(name)) {
        return Err(format!("has {name:?} as the folder of {key}, which is not 32 hex digits"));
    }
    let records: Result<_, String> = file
        .conversations
        .iter()
        .map(|(thread, stored)| {
            let record = Record {
                owner: id(&stored.owner)?,
                guild: id(&stored.guild)?,
                parent: id(&stored.parent)?,
                created_at: stored.created_at,
                agent: stored.agent.as_deref().map(agent).transpose()?,
            };
            Ok((id(thread)?, record))
        })
        .collect();
    let direct = file.direct_agents.iter().map(|(channel, name)| Ok((id(channel)?, agent(name)?)));
    let direct_agents: Result<_, String> = direct.collect();
    let reported = file.shared_logins.map(|logins| logins.iter().map(reported_login).collect());
    let reported: Option<ReportedLogins> = reported.transpose().map_err(|error| error.to_string())?;
    let questions: Questions = file.questions.iter().map(question::parse).collect::<Result<_, _>>()?;
    Ok(Maps { records: records?, folders: file.folders, direct_agents: direct_agents?, reported, questions })
}

fn reported_login((tenant, login): (&String, &StoredLogin)) -> Result<(Tenant, ReportedLogin), IdError> {
    let candidate = login.candidate.as_ref().map(|candidate| candidate.parse()).transpose()?;
    let has_ended = login.has_ended;
    Ok((tenant.parse()?, ReportedLogin { lineage: login.lineage.parse()?, candidate, has_ended }))
}

fn render(maps: &Maps) -> Vec<u8> {
    let conversations = maps
        .records
        .iter()
        .map(|(thread, record)| {
            let stored = StoredRecord {
                owner: record.owner.to_string(),
                guild: record.guild.to_string(),
                parent: record.parent.to_string(),
                created_at: record.created_at,
                agent: record.agent.as_ref().map(ToString::to_string),
            };
            (thread.to_string(), stored)
        })
        .collect();
    let direct_agents =
        maps.direct_agents.iter().map(|(channel, name)| (channel.to_string(), name.to_string()));
    let stored = |(tenant, login): (&Tenant, &ReportedLogin)| {
        let candidate = login.candidate.map(|candidate| candidate.to_string());
        let (lineage, has_ended) = (login.lineage.to_string(), login.has_ended);
        (tenant.to_string(), StoredLogin { lineage, candidate, has_ended })
    };
    let shared_logins = maps.reported.as_ref().map(|logins| logins.iter().map(stored).collect());
    let file = File {
        version: VERSION,
        conversations,
        folders: maps.folders.clone(),
        direct_agents: direct_agents.collect(),
        shared_logins,
        questions: maps.questions.iter().map(question::stored).collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&file).expect("a map with string keys is always JSON");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: u64, created_at: UnixTime) -> Record {
        Record { owner: Snowflake(owner), guild: Snowflake(7), parent: Snowflake(8), created_at, agent: None }
    }

    #[tokio::test]
    async fn owners_are_read_again_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.json");
        let first = Conversations::load(path.clone()).expect("an empty map");
        first.insert(Snowflake(10), record(1, 100)).await.expect("saved");
        first.insert(Snowflake(11), record(1, 200)).await.expect("saved");
        let again = Conversations::load(path).expect("the map");
        assert_eq!(again.get(Snowflake(10)), Some(record(1, 100)));
        assert_eq!(again.newest_of(Snowflake(1)), Some((Snowflake(11), record(1, 200))));
        assert_eq!(again.get(Snowflake(12)), None);
    }

    #[tokio::test]
    async fn the_agent_of_a_thread_and_of_direct_messages_is_read_again_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.json");
        let (claude, codex): (AgentName, AgentName) =
            ("claude".parse().expect("a name"), "codex".parse().expect("a name"));
        let first = Conversations::load(path.clone()).expect("an empty map");
        let chosen = Record { agent: Some(codex.clone()), ..record(1, 100) };
        first.insert(Snowflake(10), chosen).await.expect("saved");
        first.set_agent(Snowflake(10), claude.clone()).await.expect("saved");
        first.set_agent(Snowflake(20), codex.clone()).await.expect("saved");
        let again = Conversations::load(path).expect("the map");
        assert_eq!(again.get(Snowflake(10)).and_then(|record| record.agent), Some(claude));
        assert_eq!(again.direct_agent(Snowflake(20)), Some(codex));
        assert_eq!(again.direct_agent(Snowflake(10)), None);
    }

    #[tokio::test]
    async fn the_names_of_folders_are_kept_beside_the_conversations() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.json");
        let first = r#"{"version": 1, "conversations": {"10": {"owner": "1", "guild": "7", "parent": "8", "created_at": 5}}}"#;
        files::replace_private(&path, first.as_bytes()).expect("written");
        let map = Conversations::load(path.clone()).expect("a map of the first version");
        let names: Vec<_> = ["10-1", "11-1"].map(|key| (key.to_owned(), "ab".repeat(16))).to_vec();
        let other = ("12-1".to_owned(), "cd".repeat(16));
        map.record(names).await.expect("saved");
        map.record(vec![other.clone()]).await.expect("saved");
        map.forget(vec!["ab".repeat(16)]).await.expect("saved");
        map.insert(Snowflake(11), record(1, 100)).await.expect("saved");
        let again = Conversations::load(path).expect("the map");
        assert_eq!(again.all(), [other]);
        assert_eq!(FolderNames::get(&again, "12-1"), Some("cd".repeat(16)));
        assert_eq!(again.get(Snowflake(10)), Some(record(1, 5)));
    }

    #[tokio::test]
    async fn the_reported_logins_are_read_again_and_absent_before_the_first_look() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.json");
        let map = Conversations::load(path.clone()).expect("an empty map");
        map.insert(Snowflake(11), record(1, 100)).await.expect("saved");
        assert_eq!(Conversations::load(path.clone()).expect("the map").reported_logins(), None);
        let login = |tenant: &str, candidate, has_ended| {
            let login = ReportedLogin { lineage: Lineage([1; 16]), candidate, has_ended };
            (tenant.parse::<Tenant>().expect("a tenant"), login)
        };
        let logins: ReportedLogins =
            [login("acme/guild:9", None, true), login("acme/guild:8", Some(Lineage([2; 16])), false)].into();
        map.record_reported_logins(logins.clone()).await.expect("saved");
        let again = Conversations::load(path).expect("the map");
        assert_eq!(again.reported_logins(), Some(logins));
        assert!(again.get(Snowflake(11)).is_some(), "the conversations stay");
    }

    #[tokio::test]
    async fn questions_and_refusals_are_read_again_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.json");
        let first = Conversations::load(path.clone()).expect("an empty map");
        let tenant = |text: &str| text.parse::<Tenant>().expect("a tenant");
        let open = Question {
            is_sent: true,
            message: Some((Snowflake(10), Snowflake(77))),
            ..Question::new(Snowflake(10), "codex".to_owned(), 100, Some(Lineage([3; 16])))
        };
        let refused = Question {
            refused: Some(question::Refused { at: 200, by_provider: true }),
            ..Question::new(Snowflake(11), "claude".to_owned(), 100, None)
        };
        let all: Questions =
            [(tenant("acme/user:5"), open.clone()), (tenant("other/user:5"), refused)].into();
        let recorded = all.clone();
        first.change_questions(|questions| *questions = recorded).await.expect("saved");
        let again = Conversations::load(path.clone()).expect("the map");
        assert_eq!(again.questions(), all);
        for button in [&open.sign_in, &open.decline] {
            assert_eq!(again.question_of(button), Some((tenant("acme/user:5"), open.clone())));
        }
        assert_eq!(again.question_of("another"), None);
        let shared = files::read_text(&path).expect("a text").replace("acme/user:5", "acme/guild:5");
        files::replace_private(&path, shared.as_bytes()).expect("written");
        let error = Conversations::load(path).expect_err("a question has one user").to_string();
        assert!(error.contains("no user's"), "{error}");
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_saved_is_not_in_the_map() {
        let folder = tempfile::tempdir().expect("a folder");
        let map = Conversations::load(folder.path().join("inside/conversations.json")).expect("an empty map");
        drop(folder);
        assert!(map.insert(Snowflake(10), record(1, 100)).await.is_err());
        assert_eq!(map.get(Snowflake(10)), None);
    }

    #[test]
    fn a_corrupt_or_newer_file_is_refused_and_left_unchanged() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.json");
        for (text, what) in [
            ("{\"version\": 1, \"conversations\": {", "line 1, column"),
            ("{\"version\": 3, \"conversations\": {}}", "format version 3"),
            (
                "{\"version\": 2, \"conversations\": {}, \"folders\": {\"1-2\": \"../store\"}}",
                "not 32 hex digits",
            ),
            (
                "{\"version\": 2, \"conversations\": {}, \"shared_logins\": {\"acme/guild:9\": {\"lineage\": \"x\"}}}",
                "\"x\"",
            ),
            ("{}", "no format version"),
            ("", "not JSON"),
            (
                "{\"version\": 1, \"conversations\": {\"x\": {\"owner\": \"1\", \"guild\": \"1\", \"parent\": \"1\", \"created_at\": 0}}}",
                "not a Discord id",
            ),
        ] {
            files::replace_private(&path, text.as_bytes()).expect("written");
            let error = Conversations::load(path.clone()).expect_err("refused").to_string();
            assert!(error.contains(what), "{error}");
            assert!(error.contains("conversations.json"), "{error}");
            assert_eq!(files::read_text(&path).expect("there"), text);
        }
    }

    #[tokio::test]
    async fn a_full_map_forgets_its_oldest_conversation() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conversations.json");
        let records: BTreeMap<_, _> =
            (1..=MAX as u64).map(|id| (Snowflake(id), record(1, id as i64))).collect();
        let full = Maps { records, ..Maps::default() };
        files::replace_private(&path, &render(&full)).expect("written");
        let map = Conversations::load(path).expect("the map");
        map.insert(Snowflake(1_000_000), record(2, 1_000_000)).await.expect("saved");
        assert_eq!(map.get(Snowflake(1)), None);
        assert!(map.get(Snowflake(2)).is_some() && map.get(Snowflake(1_000_000)).is_some());
    }
}
