//! The index of keys by expiry time, from which active expiry works.
