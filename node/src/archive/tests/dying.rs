//! Storage that stops working.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

/// Storage that works for some calls, and then no more: as if the process were killed.
#[derive(Debug)]
pub(crate) struct Dying {
    pub(crate) inner: Arc<InMemory>,
    pub(crate) left: AtomicU64,
}

impl std::fmt::Display for Dying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dying")
    }
}

impl Dying {
    fn call(&self) -> object_store::Result<()> {
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        match spent {
            true => Err(object_store::Error::Generic { store: "dying", source: "it is dead".into() }),
            false => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl ObjectStore for Dying {
    async fn put_opts(&self, at: &ObjectPath, bytes: PutPayload, how: PutOptions) -> object_store::Result<PutResult> {
        self.call()?;
        self.inner.put_opts(at, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &ObjectPath,
        how: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.call()?;
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &ObjectPath, how: GetOptions) -> object_store::Result<GetResult> {
        self.call()?;
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        places: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        match self.call() {
            Ok(()) => self.inner.delete_stream(places),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, folder: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.inner.list(folder),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, folder: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.call()?;
        self.inner.list_with_delimiter(folder).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, how: CopyOptions) -> object_store::Result<()> {
        self.call()?;
        self.inner.copy_opts(from, to, how).await
    }
}
