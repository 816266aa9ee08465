//! Compiles the init process of containers, `init/`, with the same compiler: one static program that the
//! agent carries along.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "../init/src";

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed={SOURCE}");
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let program = PathBuf::from(variable("OUT_DIR")?).join("muster-init");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc
        .args(["--edition", "2024", "--crate-name", "muster_init"])
        .args(["--crate-type", "bin", "--cap-lints", "allow"])
        .args(["-C", "opt-level=s", "-C", "panic=abort"])
        .args(["-C", "strip=symbols", "-C", "target-feature=+crt-static"])
        .args(["--target", &variable("TARGET")?])
        .arg(format!("{SOURCE}/main.rs"))
        .arg("-o")
        .arg(&program);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    let status = rustc.status().map_err(|error| format!("rustc: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(
            "muster-init can't be linked: a static program needs the C library's libc.a, \
             which is in libc6-dev (Debian) or glibc-static (Fedora)"
                .to_owned(),
        )
    }
}
