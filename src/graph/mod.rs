//! WHAT is to be computed.
