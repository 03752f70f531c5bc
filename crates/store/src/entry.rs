//! One key: header, optional expiry, key and value in one allocation.
