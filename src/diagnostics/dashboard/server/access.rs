//! Decides which requests are answered, and which may cancel a run or restart a worker.

use super::ServerState;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// A header that a page of another site cannot send without a preflight request, which is refused.
const ACTION: &str = "x-sprang-action";

/// Refuses requests that do not come from this machine or from the address of the dashboard.
pub(super) async fn guard(State(state): State<Arc<ServerState>>, request: Request, next: Next) -> Response {
    let is_known = |host: &str| is_this_machine(host, state.bound);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !request.uri().host().is_none_or(is_known) || !is_allowed(request.headers(), is_read, &is_known) {
        let message = "the dashboard answers only to the address it listens on, and to pages of its own\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

fn is_allowed(headers: &HeaderMap, is_read: bool, is_known: &impl Fn(&str) -> bool) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut hosts = headers.get_all(header::HOST).iter();
    let has_known_host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_known),
        _ => false,
    };
    let has_known_origin = match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
            // Other pages of this machine are refused: it must be a page of the dashboard itself.
            host.is_some_and(|host| is_known(host) && Some(host) == text("host"))
        }
    };
    // A link on another site may lead here. Scripts and forms of another site may not use the
    // answers.
    let is_from_elsewhere = matches!(text("sec-fetch-site"), Some("cross-site" | "same-site"));
    let is_link = is_read && text("sec-fetch-mode") == Some("navigate");
    has_known_host && has_known_origin && (!is_from_elsewhere || is_link)
}

/// Whether a host, with or without a port, is a name of this machine that no other machine can
/// have. The port is ignored, because it may be forwarded.
fn is_this_machine(host: &str, bound: IpAddr) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.');
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address == bound || bound.is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

/// The refusal of a request to change something, unless it has the header and the token. [`guard`]
/// has checked its origin.
pub(super) fn refusal(state: &ServerState, headers: &HeaderMap, wanted: &str) -> Option<Response> {
    if headers.get(ACTION).is_none_or(|action| action != wanted) {
        let message = format!("give the header `X-Sprang-Action: {wanted}`\n");
        return Some((StatusCode::BAD_REQUEST, message).into_response());
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_right =
        given.and_then(|given| given.strip_prefix("Bearer ")).is_some_and(|given| state.token.matches(given));
    let message = "give the token of the dashboard as `Authorization: Bearer ...`; the program has it\n";
    (!is_right).then(|| (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], message).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn names_of_this_machine_are_distinguished_from_others() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1:8787",
            "127.9.9.9",
            "[::1]:8787",
            "[::1]",
        ] {
            assert!(is_this_machine(host, loopback), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:8787",
            "10.0.0.1",
            "0.0.0.0",
            "127.0.0.1.evil.example",
            "[::2]:1",
        ] {
            assert!(!is_this_machine(host, loopback), "{host}");
        }
        assert!(is_this_machine("10.0.0.1:8787", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
        assert!(is_this_machine("10.0.0.1:8787", IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        assert!(!is_this_machine("evil.example", IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    }
}
