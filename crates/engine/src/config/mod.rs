//! The configuration: every directive, its type, default and text form.
