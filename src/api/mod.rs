//! HOW it is asked for.
