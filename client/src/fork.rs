//! Two clusters of one id on one timeline: what comes of a cluster that was taken over, or restored, twice. Each would answer,
//! and neither knows of the other's records and revocations.
//!
//! Each answer of a node names its timeline and the certificate of it in the header [`HEADER`]
//! (`TIMELINE-FIRST 16 BYTES OF SHA-256 OF THE ENCODED CERTIFICATE`, in hexadecimal; none before a first take-over).
//!
//! Invariants
//! - Once two certificates of the newest timeline that was seen are known, nothing is answered from it any more, by
//!   whichever of the two: people decide, and the client is begun anew. A later timeline ends it, too.
//! - A client that has several endpoints asks the others now and then, lest it hold to one of the two by chance.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use kura_proto::v1;
use prost::Message;
use tonic::Code;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

/// The header that names a node's timeline and its certificate.
pub const HEADER: &str = "kura-timeline";

/// The word of such a refusal, as if a gateway had made it.
pub(crate) const KIND: &str = "forked";

/// Characters of a certificate's mark, at most.
const MARK_CHARACTERS_MAX: usize = 64;

/// What was seen of the cluster's timelines.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Newest>);

#[derive(Debug, Default)]
struct Newest {
    timeline: u64,
    mark: String,
    is_forked: bool,
}

impl Seen {
    /// Takes what an answer names; whether the answer may be taken.
    fn take(&self, header: &str) -> bool {
        let Some((number, mark)) = header.split_once('-') else { return true };
        let Ok(timeline) = number.parse::<u64>() else { return true };
        if mark.is_empty() || mark.len() > MARK_CHARACTERS_MAX {
            return true;
        }
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if timeline > newest.timeline {
            *newest = Newest { timeline, mark: mark.to_owned(), is_forked: false };
        }
        if timeline == newest.timeline && mark != newest.mark && !newest.is_forked {
            newest.is_forked = true;
            tracing::error!(timeline, "two clusters answer on this timeline: nothing is taken from either any more");
        }
        // One of an earlier timeline is refused by what it answers.
        timeline < newest.timeline || !newest.is_forked
    }
}

/// A way to a node that holds each answer against what was [`Seen`].
#[derive(Debug, Clone)]
pub(crate) struct Way {
    channel: Channel,
    seen: Arc<Seen>,
}

impl Way {
    pub fn new(channel: Channel, seen: &Arc<Seen>) -> Self {
        Self { channel, seen: Arc::clone(seen) }
    }

    /// Asks for nothing, to see whether the node answers at all. Any HTTP response will do: it proves
    /// that a connection came about and that each side accepted the other's certificate.
    pub async fn greet(self) -> Result<(), tonic::Status> {
        let request = http::Request::post("/grpc.health.v1.Health/Check")
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(Body::empty())
            .map_err(|error| tonic::Status::internal(error.to_string()))?;
        self.oneshot(request).await.map(drop).map_err(|error| tonic::Status::from_error(Box::new(error)))
    }
}

impl Service<http::Request<Body>> for Way {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answer, seen) = (self.channel.call(request), Arc::clone(&self.seen));
        Box::pin(async move {
            let answer = answer.await?;
            let header = answer.headers().get(HEADER).and_then(|value| value.to_str().ok());
            match header.is_none_or(|header| seen.take(header)) {
                true => Ok(answer),
                false => Ok(refusal().into_http()),
            }
        })
    }
}

/// What is told in the place of an answer. It may have been that of a write which was committed there.
fn refusal() -> tonic::Status {
    let detail = v1::ErrorDetail { retry: 1, committed: 3, kind: KIND.into(), ..Default::default() };
    let words = "two clusters of this id answer on one timeline, and neither knows of the other's records and revocations: \
                 nothing is taken from either until one of them is ended";
    tonic::Status::with_details(Code::FailedPrecondition, words, detail.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_certificates_of_one_timeline_end_it_and_a_later_timeline_goes_on() {
        let seen = Seen::default();
        assert!(seen.take("1-aa") && seen.take("1-aa"));
        assert!(seen.take("0-bb"), "an earlier one is refused elsewhere");
        assert!(!seen.take("1-bb"));
        assert!(!seen.take("1-aa"), "which of the two is right is not for the client to say");
        assert!(seen.take("2-cc"), "people went on");
        assert!(seen.take("1-bb") && seen.take("2-cc") && !seen.take("2-dd"));
    }

    #[test]
    fn what_is_no_such_header_says_nothing() {
        let seen = Seen::default();
        assert!(seen.take("1-aa"));
        let long = format!("1-{}", "b".repeat(65));
        for header in ["", "1", "1-", "x-aa", "-1-aa", &long] {
            assert!(seen.take(header), "{header}");
        }
        assert!(seen.take("1-aa"));
    }
}
