//! Requests that could not be read, answered as what they are: the client's mistake.
//!
//! The gRPC library decides about bytes that are no message, or too many, before a service is
//! called: with INTERNAL, which blames the node, or OUT_OF_RANGE, and without an ErrorInfo; of a
//! method that is none with UNIMPLEMENTED and without a word. The codec of requests
//! ([`stator_proto::strict`]) uses UNIMPLEMENTED with words, which name what is not offered. The
//! services never use these codes without details themselves, so an answer that consists of one of
//! them alone is the library's or the codec's. Errors after the answer has begun are in its trailers and stay as they are.

use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::{Code, Status};

use super::errors;
use crate::listen::{AnswerTrouble, BodyTrouble};

/// Names the trailing details of a status; an answer of a service always has them.
const DETAILS_HEADER: &str = "grpc-status-details-bin";

/// Gives an answer of the gRPC library about an unreadable request the right code and an
/// ErrorInfo; every other answer is handed on. To be laid around all services of a listener.
pub fn explain_unread(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if !headers.contains_key(Status::GRPC_STATUS) || headers.contains_key(DETAILS_HEADER) {
        return response;
    }
    match Status::from_header_map(headers).and_then(|status| explained(&status)) {
        Some(status) => status.into_http(),
        None => response,
    }
}

fn explained(status: &Status) -> Option<Status> {
    let (reason, what) = match status.code() {
        Code::Internal => ("MESSAGE_MALFORMED", "the request is not a message of this method"),
        Code::OutOfRange => ("MESSAGE_TOO_LARGE", "the request is larger than this node reads"),
        Code::Unimplemented if !status.message().is_empty() => {
            return Some(errors::unimplemented(status.message()));
        }
        Code::Unimplemented => {
            let message = "this listener has no such method; reflection lists those it has";
            return Some(errors::status(Code::Unimplemented, "UNKNOWN_METHOD", message, &[]));
        }
        _ => return None,
    };
    let message = format!("{what}: {}; nothing was changed", status.message());
    Some(errors::status(Code::InvalidArgument, reason, message, &[]))
}

/// The answer to a request whose body was not read to its end.
pub fn refuse_body(trouble: BodyTrouble) -> Status {
    let message = format!("{trouble}; nothing was changed");
    match trouble {
        BodyTrouble::TooSlow { .. } => {
            let facts = [("effect", "NONE".to_owned())];
            errors::status(Code::DeadlineExceeded, "BODY_TOO_SLOW", message, &facts)
        }
        BodyTrouble::Full { bytes_max } => errors::exhausted(message, bytes_max),
    }
}

/// The answer in the place of one that did not fit, or to a request that found no place.
pub fn refuse_answer(trouble: AnswerTrouble, path: &str) -> Status {
    match trouble {
        AnswerTrouble::Requests { requests_max } => {
            errors::exhausted(format!("{trouble}; nothing was changed"), requests_max)
        }
        AnswerTrouble::Full { bytes_max } => {
            let method = path.rsplit('/').next().unwrap_or_default();
            if ["Get", "List"].iter().any(|reads| method.starts_with(reads)) {
                return errors::exhausted(format!("{trouble}; nothing was changed"), bytes_max);
            }
            let message = format!("{trouble}; this one is lost, not what it tells of");
            let facts = [("limit", bytes_max.to_string()), ("effect", "MAYBE".to_owned())];
            errors::status(Code::ResourceExhausted, "OVERLOADED", message, &facts)
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn through(status: Status) -> Status {
        let response = explain_unread(status.into_http());
        Status::from_header_map(response.headers()).expect("a status")
    }

    #[test]
    fn what_could_not_be_decoded_is_the_clients_mistake() {
        let status = through(Status::internal("PutRequest.key: buffer underflow"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("PutRequest.key: buffer underflow"), "{status}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|i| i.reason.as_str()), Some("MESSAGE_MALFORMED"));
    }

    #[test]
    fn an_option_without_a_name_is_told_from_a_method_without_one() {
        let reason = |status: &Status| {
            status.get_error_details().error_info().map(|info| info.reason.clone())
        };
        let option = through(Status::unimplemented("field 13 of stator.v1.PutRequest"));
        assert_eq!(reason(&option).as_deref(), Some("NOT_OFFERED"));
        assert!(option.message().contains("field 13"), "{option}");
        let method = through(Status::unimplemented(""));
        assert_eq!(reason(&method).as_deref(), Some("UNKNOWN_METHOD"));
    }

    #[test]
    fn what_a_service_says_is_handed_on() {
        let own = errors::status(Code::Internal, "REASON", "its own words", &[]);
        assert_eq!(through(own).message(), "its own words");
        let success = explain_unread(Response::new(Body::default()));
        assert!(!success.headers().contains_key(Status::GRPC_STATUS));
    }
}
