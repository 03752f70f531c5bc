//! The libraries of FUNCTION, shared by all workers, and the payload of FUNCTION DUMP.
//!
//! Invariant: a set of libraries never changes; it is replaced as a whole, so that a failed change leaves nothing behind.
//! Workers load a library into their own interpreter when they first call one of its functions; a library's number tells
//! them apart when one replaces another of its name.

pub mod payload;

use crate::error::{Error, Result};
use crate::scripting::FunctionInfo;
use crate::scripting::shebang;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A library of functions.
pub struct Library {
    /// Its number: never used again.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its text, with the metadata line.
    pub code: Arc<[u8]>,
    /// What it registered.
    pub functions: Vec<FunctionInfo>,
}

/// A set of libraries in which no function name occurs twice.
#[derive(Clone, Default)]
pub struct Libraries {
    by_name: BTreeMap<String, Arc<Library>>,
    /// Library and place in it, by lower-case name.
    functions: HashMap<Box<[u8]>, (Arc<Library>, usize)>,
}

impl Libraries {
    /// Adds a library, in place of the one of the same name if `replace`.
    ///
    /// # Errors
    /// When the library, or a function of another one, has the name already; nothing is changed then.
    pub fn add(&mut self, library: Arc<Library>, replace: bool) -> Result {
        if !replace && self.by_name.contains_key(&library.name) {
            return Err(Error::owned(format!("ERR Library '{}' already exists", library.name)));
        }
        let taken = |info: &&FunctionInfo| match self.functions.get(info.name.to_ascii_lowercase().as_bytes()) {
            Some((owner, _)) => owner.name != library.name,
            None => false,
        };
        if let Some(info) = library.functions.iter().find(taken) {
            return Err(Error::owned(format!("ERR Function {} already exists", info.name)));
        }
        self.remove(&library.name);
        for (at, info) in library.functions.iter().enumerate() {
            self.functions.insert(info.name.to_ascii_lowercase().as_bytes().into(), (library.clone(), at));
        }
        self.by_name.insert(library.name.clone(), library);
        Ok(())
    }

    /// Removes a library. `false` if there is none of this name.
    pub fn remove(&mut self, name: &str) -> bool {
        let removed = self.by_name.remove(name).is_some();
        if removed {
            self.functions.retain(|_, (library, _)| library.name != name);
        }
        removed
    }

    /// The libraries by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.by_name.values()
    }

    /// The library of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Library>> {
        self.by_name.get(name)
    }

    /// The function of this name, in any case: its library and its place there.
    pub fn function(&self, name: &[u8]) -> Option<(Arc<Library>, usize)> {
        self.functions.get(&*name.to_ascii_lowercase()).cloned()
    }

    /// Bytes of the libraries' texts.
    pub fn bytes(&self) -> usize {
        self.by_name.values().map(|library| library.code.len()).sum()
    }

    /// Number of libraries, and of functions.
    pub fn count(&self) -> (usize, usize) {
        (self.by_name.len(), self.functions.len())
    }
}

/// The libraries that FCALL sees.
#[derive(Default)]
pub struct Functions {
    current: Mutex<Arc<Libraries>>,
    generation: AtomicU64,
    last_id: AtomicU64,
}

impl Functions {
    fn lock(&self) -> MutexGuard<'_, Arc<Libraries>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The libraries as they are now.
    pub fn current(&self) -> Arc<Libraries> {
        self.lock().clone()
    }

    /// A number for a new library.
    pub fn new_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    /// Changes the libraries: all that `change` does, or nothing if it fails.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn change(&self, change: impl FnOnce(&mut Libraries) -> Result) -> Result {
        let mut current = self.lock();
        let mut next = Libraries::clone(&current);
        change(&mut next)?;
        *current = Arc::new(next);
        self.generation.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Counts the changes.
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }
}

/// What makes a name of a library or function.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The name that a library's first line gives it.
///
/// # Errors
/// On a first line that is not `#!lua name=…`.
pub fn library_name(code: &[u8]) -> Result<String> {
    if !code.starts_with(b"#!") {
        return Err(Error::text("ERR Missing library metadata"));
    }
    const INVALID: Error = Error::text("ERR Invalid library metadata");
    let end = code.iter().position(|&b| b == b'\n').ok_or(INVALID)?;
    let line = String::from_utf8_lossy(&code[2..end]);
    let words = shebang::words(&line).ok_or(INVALID)?;
    // `#! name=x`: an engine without a name.
    let (engine, options) = match words.split_first() {
        Some((engine, options)) if !line.starts_with(' ') => (engine.as_str(), options),
        _ => ("", &words[..]),
    };
    let mut name = None;
    for option in options {
        let Some(value) = option.strip_prefix("name=") else {
            return Err(Error::owned(format!("ERR Invalid metadata value given: {option}")));
        };
        if name.replace(value).is_some() {
            return Err(Error::text("ERR Invalid metadata value, name argument was given multiple times"));
        }
    }
    let name = name.ok_or(Error::text("ERR Library name was not given"))?;
    if !is_name(name) {
        return Err(Error::text(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ));
    }
    if !engine.eq_ignore_ascii_case("lua") {
        return Err(Error::owned(format!("ERR Engine '{engine}' not found")));
    }
    Ok(name.to_string())
}
