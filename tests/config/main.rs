//! The configuration, through its public functions: layers, mistakes, scopes, snapshots.

mod child;
mod dashboard;
mod docs;
mod layers;
mod mistakes;
mod processes;
mod scopes;

use sprang::config;

/// The value of `key` on this thread now.
fn get(key: &str) -> String {
    config::get(key).unwrap()
}

/// The message that every call that needs a setting fails with.
fn mistake() -> String {
    let error = config::settings().unwrap_err();
    assert_eq!(error.kind(), sprang::ErrorKind::Config);
    assert_eq!(config::snapshot().unwrap_err().to_string(), error.to_string());
    assert_eq!(config::get("order").unwrap_err().to_string(), error.to_string());
    assert_eq!(config::explain("order").unwrap_err().to_string(), error.to_string());
    error.to_string()
}
