//! Development only: conversations, oracle, differential fuzzing.
