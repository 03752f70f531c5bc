//! The configuration as all threads share it: one lock for changes, snapshots for readers.

use super::{Config, Settings, set_failed};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a change means outside: sockets, directories, limits of the process, files.
pub trait Effects: Send + Sync {
    /// Makes a change happen before it is visible. May `force` values to what the system made of them.
    ///
    /// # Errors
    /// The directive that cannot be had, and why; nothing has changed then.
    fn apply(&self, old: &Settings, new: &mut Config) -> Result<(), (&'static str, String)>;

    /// Replaces the configuration file by what `rewrite` makes of its text.
    ///
    /// # Errors
    /// The text of the error reply.
    fn rewrite_file(&self, rewrite: &dyn Fn(&str) -> String) -> Result<(), String>;
}

/// For tests and embedding: every change is fine, and there is no file.
pub struct NoEffects;

impl Effects for NoEffects {
    fn apply(&self, _: &Settings, _: &mut Config) -> Result<(), (&'static str, String)> {
        Ok(())
    }
    fn rewrite_file(&self, _: &dyn Fn(&str) -> String) -> Result<(), String> {
        Err("ERR The server is running without a config file".into())
    }
}

/// The shared configuration. Invariant: `settings` is what the `Config` says, and `version` moves with every change,
/// after `settings` did.
pub struct ConfigHandle {
    config: Mutex<(Config, Arc<Settings>)>,
    version: AtomicU64,
    effects: Box<dyn Effects>,
}

impl ConfigHandle {
    /// Shares a configuration.
    pub fn new(config: Config, effects: Box<dyn Effects>) -> ConfigHandle {
        let settings = Arc::new(config.settings());
        ConfigHandle { config: Mutex::new((config, settings)), version: AtomicU64::new(1), effects }
    }

    fn lock(&self) -> MutexGuard<'_, (Config, Arc<Settings>)> {
        // Changes are made on a copy, so that a panic cannot leave half of one behind.
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves with every change. One load: readers ask this first.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The present settings.
    pub fn settings(&self) -> Arc<Settings> {
        self.lock().1.clone()
    }

    /// CONFIG GET.
    pub fn get(&self, patterns: &[&str]) -> Vec<(String, String)> {
        self.lock().0.get(patterns)
    }

    /// CONFIG SET: all pairs or none. See `Config::set`.
    ///
    /// # Errors
    /// The text of the error reply.
    pub fn set(&self, pairs: &[(&str, &str)], local: bool) -> Result<(), String> {
        let mut held = self.lock();
        let mut config = held.0.clone();
        config.set(pairs, local)?;
        self.effects.apply(&held.1, &mut config).map_err(|(name, reason)| set_failed(name, &reason))?;
        let settings = config.settings();
        *held = (config, Arc::new(settings));
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Says which server this one follows, if any: REPLICAOF was called.
    pub fn set_master(&self, master: Option<(&str, u16)>) {
        let mut held = self.lock();
        let (config, settings) = &mut *held;
        config.set_master(master);
        // What the kernel is told of this process may change; if it cannot be, the log says so.
        let _ = self.effects.apply(settings, config);
        *settings = Arc::new(config.settings());
        self.version.fetch_add(1, Ordering::Release);
    }

    /// CONFIG REWRITE; `users` are the lines about them. `all`: with every directive.
    ///
    /// # Errors
    /// The text of the error reply.
    pub fn rewrite(&self, users: &[String], all: bool) -> Result<(), String> {
        let held = self.lock();
        self.effects.rewrite_file(&|old| held.0.rewrite(old, users, all))
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Config {
        self.lock().0.clone()
    }
}

/// One thread's view: takes the lock only when the version moved.
pub struct ConfigReader {
    handle: Arc<ConfigHandle>,
    version: u64,
    settings: Arc<Settings>,
}

impl ConfigReader {
    /// A view of the present settings.
    pub fn new(handle: Arc<ConfigHandle>) -> ConfigReader {
        // The version first: a change in between only makes the next `refresh` take the same settings again.
        let version = handle.version();
        let settings = handle.settings();
        ConfigReader { handle, version, settings }
    }

    /// Takes the newest settings; whether they changed since the last call.
    pub fn refresh(&mut self) -> bool {
        let version = self.handle.version();
        let moved = version != self.version;
        if moved {
            self.version = version;
            self.settings = self.handle.settings();
        }
        moved
    }

    /// The settings as of the last `refresh`.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What is shared.
    pub fn handle(&self) -> &Arc<ConfigHandle> {
        &self.handle
    }
}
