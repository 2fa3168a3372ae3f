//! Structured logs on stderr: text for eyes, JSON for programs.

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;

/// Starts logging as configured. A filter that cannot be read falls back to `info`, and says so.
pub fn start(config: &LogConfig) {
    let parsed = EnvFilter::try_new(&config.level);
    let mistaken = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A subscriber that is there already (tests) stays.
    let _ = match &config.format[..] {
        "json" => builder.json().try_init(),
        _ => builder.try_init(),
    };
    if let Some(why) = mistaken {
        tracing::warn!(%why, "log.level cannot be read; logging at info");
    }
}
