//! Users and their permissions (Redis documentation, "ACL").
//!
//! The users live in one map behind a lock. A session holds the `User` that it had when it last looked, and looks again
//! when [`Acl::version`] has moved: before each batch of commands, and after its own changes. So the check of a command
//! costs a session that may do everything one branch, and no session an access to shared memory.
//! Invariant: whoever changes or removes a user does so before it moves the version, and afterwards closes the sessions
//! that may no longer be.

mod commands;
pub mod file;
pub mod log;
pub mod rules;
pub mod user;

use crate::clients::ClientInfo;
use crate::config::{Config, KeptLine, Settings};
use crate::engine::Engine;
use crate::error::Error;
use crate::pubsub::Subscription;
use crate::registry::Registered;
use crate::session::Session;
use crate::worker::Worker;
use log::{AclLog, Context, Event, Refusal};
use rules::RuleError;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use user::{Denied, Reason, User, hash_password};

/// The user that connections begin as.
pub const DEFAULT: &[u8] = b"default";

/// Users by name.
pub type Users = BTreeMap<Box<[u8]>, Arc<User>>;

struct Shared {
    users: Users,
    /// The `requirepass` that the default user's password was last taken from.
    requirepass: String,
}

/// All users.
pub struct Acl {
    shared: Mutex<Shared>,
    version: AtomicU64,
    /// ACL LOG.
    pub log: AclLog,
}

/// What a user was before a change, and what it is now.
pub struct Change {
    /// Before; `None` if it is new.
    pub old: Option<Arc<User>>,
    /// Now; `None` if it was removed.
    pub new: Option<Arc<User>>,
}

fn only_default() -> Users {
    Users::from([(DEFAULT.into(), Arc::new(User::first()))])
}

/// Changes the default user's password to what `requirepass` says.
fn require_password(users: &mut Users, requirepass: &str) {
    let Some(user) = users.get_mut(DEFAULT) else { return };
    let user = Arc::make_mut(user);
    user.passwords.clear();
    user.any_password = requirepass.is_empty();
    if !requirepass.is_empty() {
        user.passwords.push(hash_password(requirepass.as_bytes()));
    }
}

impl Acl {
    /// The user `default` only, with this password.
    pub fn new(requirepass: &str) -> Acl {
        let mut users = only_default();
        require_password(&mut users, requirepass);
        Acl {
            shared: Mutex::new(Shared { users, requirepass: requirepass.into() }),
            version: AtomicU64::new(1),
            log: AclLog::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Changes are made in one step each, so that a panic leaves none half made.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves with every change of users.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn moved(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// The user of this name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<User>> {
        self.lock().users.get(name).cloned()
    }

    /// The user that connections begin as.
    pub fn default_user(&self) -> Arc<User> {
        // It is never removed.
        self.get(DEFAULT).unwrap_or_else(|| Arc::new(User::new(DEFAULT, false)))
    }

    /// Every user, by name.
    pub fn all(&self) -> Users {
        self.lock().users.clone()
    }

    /// Makes or changes a user: all rules or none.
    ///
    /// # Errors
    /// The rule that is refused.
    pub fn set(&self, name: &[u8], rules: &[Vec<u8>], all_channels: bool) -> Result<Change, (Vec<u8>, RuleError)> {
        let mut shared = self.lock();
        let old = shared.users.get(name).cloned();
        let mut user = old.as_deref().cloned().unwrap_or_else(|| User::new(name, all_channels));
        user.apply_all(rules, all_channels)?;
        let new = Arc::new(user);
        shared.users.insert(name.into(), new.clone());
        self.moved();
        Ok(Change { old, new: Some(new) })
    }

    /// Removes a user, if there is one of this name.
    pub fn remove(&self, name: &[u8]) -> Option<Change> {
        let old = self.lock().users.remove(name)?;
        self.moved();
        Some(Change { old: Some(old), new: None })
    }

    /// Has these users in place of all that there were; what became of those.
    pub fn replace(&self, mut users: Users) -> Vec<Change> {
        users.entry(DEFAULT.into()).or_insert_with(|| Arc::new(User::first()));
        let mut shared = self.lock();
        let old = std::mem::replace(&mut shared.users, users);
        let changes =
            old.into_iter().map(|(name, old)| Change { new: shared.users.get(&name).cloned(), old: Some(old) });
        let changes = changes.collect();
        self.moved();
        changes
    }

    /// CONFIG SET requirepass is a change of the default user's password.
    pub fn follow_requirepass(&self, requirepass: &str) {
        let mut shared = self.lock();
        if shared.requirepass != requirepass {
            shared.requirepass = requirepass.into();
            require_password(&mut shared.users, requirepass);
            self.moved();
        }
    }

    /// Whether nobody said anything about users but for `requirepass`.
    fn is_plain(&self) -> bool {
        let shared = self.lock();
        let mut plain = only_default();
        require_password(&mut plain, &shared.requirepass);
        shared.users == plain
    }

    /// The `user` lines of a configuration file that says what is; none if it need say nothing.
    pub fn config_lines(&self) -> Vec<String> {
        if self.is_plain() {
            return Vec::new();
        }
        self.all().values().map(|user| file::config_line(user)).collect()
    }

    /// Reads the users from the configuration's lines, or from the ACL file, before any client connects.
    ///
    /// # Errors
    /// Why the server cannot start.
    pub fn load_at_start(
        &self,
        config: &Config,
        read: impl Fn(&str) -> std::io::Result<Vec<u8>>,
    ) -> Result<(), String> {
        let settings = config.settings();
        let all_channels = settings.acl_pubsub_default_allchannels;
        let lines = config.kept_lines().iter();
        let lines: Vec<&[String]> =
            lines.filter_map(|line| if let KeptLine::User(words) = line { Some(&words[..]) } else { None }).collect();
        if !settings.aclfile.is_empty() {
            if !lines.is_empty() {
                return Err(
                    "Configuring the server with users defined in the configuration file and at the same setting \
                            an ACL file path is invalid. This setup is very likely to lead to configuration errors and \
                            security holes, please define either an ACL file or declare users directly in your \
                            configuration file, but not both."
                        .into(),
                );
            }
            let users = self.read_file(&settings, read);
            let users = users.map_err(|error| format!("Aborting startup because of ACL errors: {error}"))?;
            self.replace(users);
            return Ok(());
        }
        for words in lines {
            let [name, rules @ ..] = words else { continue };
            let rules: Vec<&[u8]> = rules.iter().map(|word| word.as_bytes()).collect();
            let mut joined = rules::join_selectors(&rules).map_err(|_| RuleError::Syntax.to_string())?;
            if name.as_bytes() == DEFAULT {
                joined.insert(0, b"reset".to_vec());
            }
            self.set(name.as_bytes(), &joined, all_channels).map_err(|(rule, error)| {
                let rule = String::from_utf8_lossy(&rule);
                format!("Error loading ACL rule '{rule}' for the user named '{name}': {error}")
            })?;
        }
        Ok(())
    }

    /// The users that the ACL file holds.
    ///
    /// # Errors
    /// What is wrong with it, in Redis's words.
    pub fn read_file(
        &self,
        settings: &Settings,
        read: impl Fn(&str) -> std::io::Result<Vec<u8>>,
    ) -> Result<Users, String> {
        let name = &settings.aclfile;
        let text =
            read(name).map_err(|error| format!("Error loading ACLs, opening file '{name}': {}", reason(&error)))?;
        file::parse(&text, name, settings.acl_pubsub_default_allchannels)
    }
}

/// The system's words for an error, without Rust's addition of its number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

impl Session {
    /// Is another user from here on.
    pub fn log_in(&mut self, user: Arc<User>, version: u64) {
        self.info.labels().user = String::from_utf8_lossy(&user.name).into_owned();
        self.authenticated = true;
        self.acl_version = version;
        self.set_user(user);
    }

    /// The user as it is now.
    fn set_user(&mut self, user: Arc<User>) {
        self.restricted = !self.authenticated || !user.is_unrestricted();
        self.user = user;
    }

    /// Begins as the default user, which may have to log in first.
    pub fn begin_as_default(&mut self, user: Arc<User>, version: u64) {
        self.authenticated = user.is_open();
        self.acl_version = version;
        self.set_user(user);
    }
}

impl Worker {
    /// Has a session see what became of its user. Whether there was anything to see.
    #[inline]
    pub(crate) fn follow_users(&self, session: &mut Session) -> bool {
        let version = self.engine.acl.version();
        let moved = session.acl_version != version;
        if moved {
            self.look_user_up(session, version);
        }
        moved
    }

    #[cold]
    fn look_user_up(&self, session: &mut Session, version: u64) {
        session.acl_version = version;
        match self.engine.acl.get(&session.user.name) {
            Some(user) => {
                session.authenticated |= *user.name == *DEFAULT && user.is_open();
                session.set_user(user);
            }
            // Whoever removed it closes the session; until then it may do nothing.
            None => session.set_user(Arc::new(User::new(&session.user.name, false))),
        }
    }
}

/// Whether a session with these subscriptions must end, as its user became another.
fn must_end(info: &ClientInfo, change: &Change) -> bool {
    let Some(new) = &change.new else { return true };
    if change.old.as_ref().is_none_or(|old| new.listens_as(old)) {
        return false;
    }
    let subscribed = info.subscribed();
    let kinds = [Subscription::Channel, Subscription::Pattern, Subscription::Shard];
    kinds.into_iter().any(|kind| subscribed[kind as usize].iter().any(|name| !new.may_listen(kind, name)))
}

/// The sessions that must end after a change.
pub fn to_end(engine: &Engine, change: &Change) -> Vec<Arc<ClientInfo>> {
    let Some(name) = change.old.as_ref().map(|old| String::from_utf8_lossy(&old.name)) else { return Vec::new() };
    let mut clients = engine.clients.all();
    clients.retain(|info| *info.labels().user == *name && must_end(info, change));
    clients
}

/// Checks what a restricted session wants to run, and notes in ACL LOG what it may not.
///
/// # Errors
/// The error reply.
pub fn check(
    worker: &Worker,
    session: &Session,
    command: &Registered,
    words: &[&[u8]],
    context: Context,
) -> Result<(), (Reason, Error)> {
    let db = session.multi.as_ref().and_then(|queue| queue.db).unwrap_or(session.db);
    let Err(denied) = session.user.check(command, words, db, worker.engine.keyspace.databases()) else { return Ok(()) };
    note(worker, &session.user, &session.info, command, words, denied, context);
    Err((denied.reason, Error::owned(format!("NOPERM {}", text(&session.user, command, denied.reason)))))
}

/// Writes a denial into ACL LOG.
pub fn note(
    worker: &Worker,
    user: &User,
    info: &ClientInfo,
    command: &Registered,
    words: &[&[u8]],
    denied: Denied,
    context: Context,
) {
    let object = match denied.reason {
        Reason::Command => command.name.as_bytes(),
        Reason::Database | Reason::Key | Reason::Channel => words.get(denied.at).copied().unwrap_or_default(),
    };
    note_event(worker, info, denied.reason.into(), context, object, &user.name);
}

/// Writes an event into ACL LOG.
pub fn note_event(worker: &Worker, info: &ClientInfo, refusal: Refusal, context: Context, object: &[u8], user: &[u8]) {
    let now_ms = worker.now_ms();
    let client = crate::commands::describe_client(info, now_ms);
    let event = Event { refusal, context, object: object.to_vec(), user: user.to_vec(), client };
    worker.engine.acl.log.add(event, now_ms, worker.settings.acllog_max_len);
}

/// What a user is told who may not do something.
pub fn text(user: &User, command: &Registered, reason: Reason) -> String {
    match reason {
        Reason::Command => format!(
            "User {} has no permissions to run the '{}' command",
            String::from_utf8_lossy(&user.name),
            command.name
        ),
        Reason::Key => "No permissions to access a key".into(),
        Reason::Channel => "No permissions to access a channel".into(),
        Reason::Database => "No permissions to access database".into(),
    }
}
