//! Storage that somebody writes to while it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Reads what was there before for some calls, and what was there afterwards from then on.
#[derive(Debug)]
pub(crate) struct Growing {
    pub(crate) before: Arc<InMemory>,
    pub(crate) after: Arc<InMemory>,
    pub(crate) left: AtomicU64,
}

impl std::fmt::Display for Growing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("growing")
    }
}

impl Growing {
    fn now(&self) -> &InMemory {
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        if spent { &self.after } else { &self.before }
    }
}

fn read_only() -> Error {
    Error::NotSupported { source: "it is read only".into() }
}

#[tonic::async_trait]
impl ObjectStore for Growing {
    async fn put_opts(&self, _: &ObjectPath, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(&self, _: &ObjectPath, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    async fn get_opts(&self, at: &ObjectPath, how: GetOptions) -> Result<GetResult> {
        self.now().get_opts(at, how).await
    }

    fn delete_stream(&self, places: BoxStream<'static, Result<ObjectPath>>) -> BoxStream<'static, Result<ObjectPath>> {
        Box::pin(futures_util::StreamExt::map(places, |_| Err(read_only())))
    }

    fn list(&self, folder: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.now().list(folder)
    }

    async fn list_with_delimiter(&self, folder: Option<&ObjectPath>) -> Result<ListResult> {
        self.now().list_with_delimiter(folder).await
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}
