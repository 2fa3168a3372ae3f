//! Lists that are fetched page by page, as they are read.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream, Stream, StreamExt};

/// One page: its items, and where the next one begins if there is one.
pub(crate) struct Page<T, C> {
    pub items: Vec<T>,
    pub next: Option<C>,
}

/// A lazy list: asks for a further page only when the former is used up. After an error it ends.
///
/// Every page is a request of its own, decided and journalled. Also a [`Stream`].
#[must_use = "nothing is asked until items are taken"]
pub struct Listing<T, E>(BoxStream<'static, Result<T, E>>);

impl<T, E> fmt::Debug for Listing<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing(…)")
    }
}

impl<T: Send + 'static, E: Send + 'static> Listing<T, E> {
    /// Pages fetched by `fetch`, which is given where to begin.
    pub(crate) fn paged<C, F>(first: C, fetch: impl Fn(C) -> F + Send + 'static) -> Self
    where
        C: Send + 'static,
        F: Future<Output = Result<Page<T, C>, E>> + Send + 'static,
    {
        let state = (VecDeque::new(), Some(first), fetch);
        Self(
            stream::unfold(state, |(mut items, mut next, fetch)| async move {
                loop {
                    if let Some(item) = items.pop_front() {
                        return Some((Ok(item), (items, next, fetch)));
                    }
                    match fetch(next.take()?).await {
                        Ok(page) => {
                            items = page.items.into();
                            next = page.next;
                        }
                        Err(error) => return Some((Err(error), (items, None, fetch))),
                    }
                }
            })
            .boxed(),
        )
    }

    pub(crate) fn from_stream(stream: impl Stream<Item = Result<T, E>> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// The next item; nothing at the end.
    pub async fn next(&mut self) -> Option<Result<T, E>> {
        self.0.next().await
    }

    /// The first items, at most `most` of them.
    ///
    /// # Errors
    /// The first that is met.
    pub async fn take(mut self, most: usize) -> Result<Vec<T>, E> {
        let mut items = Vec::new();
        while items.len() < most {
            match self.next().await {
                Some(item) => items.push(item?),
                None => break,
            }
        }
        Ok(items)
    }
}

impl<T, E> Stream for Listing<T, E> {
    type Item = Result<T, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn pages_are_asked_for_as_they_are_needed_and_an_error_ends_the_list() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let mut list = Listing::paged(0u32, move |page| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                // An empty page in the middle is no end.
                let items = if page == 1 { vec![] } else { vec![page * 10, page * 10 + 1] };
                if page < 3 { Ok(Page { items, next: Some(page + 1) }) } else { Err("cut") }
            }
        });
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        assert_eq!((list.next().await, list.next().await), (Some(Ok(0)), Some(Ok(1))));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!((list.next().await, list.next().await), (Some(Ok(20)), Some(Ok(21))));
        assert_eq!((list.next().await, list.next().await), (Some(Err("cut")), None));
    }
}
