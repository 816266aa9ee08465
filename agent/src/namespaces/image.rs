//! The image of the containers that hold parked namespaces: one static program, put into the engine by the
//! agent itself, so no registry is asked.

use std::io;

use bytes::Bytes;

use crate::init;
use crate::runtime::{EngineError, Runtime};

const REPOSITORY: &str = "muster-parked";
/// Where the program is in it.
const PATH: &str = "muster-init";

/// The engine's id of the image, which is made if the engine does not hold it.
pub(crate) async fn ensure<R: Runtime>(runtime: &R) -> Result<String, EngineError> {
    let tag = init::hash();
    let name = format!("{REPOSITORY}:{tag}");
    if let Some(found) = runtime.inspect_image(&name).await? {
        return Ok(found.id);
    }
    let layer = layer().expect("writing to memory does not fail");
    runtime.import_image(REPOSITORY, &tag, layer).await?;
    let made = runtime.inspect_image(&name).await?;
    made.map(|found| found.id).ok_or(EngineError::Refused {
        status: 404,
        message: format!("{name} was imported and is not there"),
    })
}

fn layer() -> io::Result<Bytes> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o555);
    header.set_size(u64::try_from(init::PROGRAM.len()).unwrap_or(u64::MAX));
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, PATH, init::PROGRAM)?;
    Ok(archive.into_inner()?.into())
}
