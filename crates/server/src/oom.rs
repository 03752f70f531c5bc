//! `oom-score-adj`: how gladly the kernel ends this process when memory is short (proc(5), `oom_score_adj`).

use crate::log;
use kelda_engine::config::{OomScore, Settings};
use std::sync::{Mutex, PoisonError};

const FILE: &str = "/proc/self/oom_score_adj";

/// The score as it is told to the kernel.
#[derive(Default)]
pub struct Oom {
    /// What it was before this server changed it; `None` while it has not.
    before: Mutex<Option<i32>>,
}

fn read() -> Result<i32, String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|_| format!("{FILE} holds no number"))
}

impl Oom {
    /// Has the kernel know the score that the settings ask for, or the one from before.
    ///
    /// # Errors
    /// The text of the error of CONFIG SET. The score is as it was.
    pub fn apply(&self, settings: &Settings) -> Result<(), String> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let base = before.map_or_else(read, Ok);
        let [of_master, of_replica, _] = settings.oom_score_adj_values;
        let value = if settings.replicaof.is_empty() { of_master } else { of_replica };
        let wanted = match settings.oom_score_adj {
            OomScore::No if before.is_none() => return Ok(()),
            OomScore::No => base.clone(),
            OomScore::Absolute => Ok(value),
            OomScore::Yes | OomScore::Relative => base.clone().map(|base| base + value),
        };
        let write = |score: i32| {
            let score = score.clamp(-1000, 1000).to_string();
            std::fs::write(FILE, score).map_err(|error| error.to_string())
        };
        wanted.and_then(write).map_err(|why| {
            log::warning(&format!("Cannot change {FILE}: {why}"));
            "Failed to set the score, check the server's log.".to_string()
        })?;
        *before = match settings.oom_score_adj {
            OomScore::No => None,
            _ => base.ok(),
        };
        Ok(())
    }
}
