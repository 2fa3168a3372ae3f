//! Structured logs on stderr: text for eyes, JSON for programs.

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;

/// Starts logging as configured. A configuration whose filter cannot be read is refused when it is loaded.
pub fn start(config: &LogConfig) {
    let filter = config.filter().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A subscriber that is there already (tests) stays.
    let _ = match &config.format[..] {
        "json" => builder.json().try_init(),
        _ => builder.try_init(),
    };
}
