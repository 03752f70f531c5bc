//! Packed blocks: small collections in one contiguous allocation.
