//! nginx with one worker, in the foreground, until it is dropped.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{load::Target, place::free_port};

pub(crate) struct Nginx {
    pub(crate) port: u16,
    folder: TempDir,
    process: Child,
}

impl Nginx {
    /// Starts it with these directives of its server, and these of `http`.
    pub(crate) async fn start(server: &str, http: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("ng").tempdir().expect("a folder");
        let (port, at) = (free_port(), folder.path().display().to_string());
        let config = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\npid {at}/pid;\nerror_log stderr crit;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n access_log off;\n keepalive_requests 1000000000;\n tcp_nodelay on;\n sendfile on;\n\
             client_body_temp_path {at}/b;\n proxy_temp_path {at}/p;\n fastcgi_temp_path {at}/f;\n\
             uwsgi_temp_path {at}/u;\n scgi_temp_path {at}/s;\n {http}\n\
             server {{\n listen 127.0.0.1:{port};\n listen unix:{at}/sock;\n {server}\n }}\n}}\n"
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).expect("writable");
        let process = Command::new("nginx")
            .args(["-p", &at, "-c"])
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx starts");
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Self { port, folder, process };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nginx does not listen");
    }

    pub(crate) fn tcp(&self) -> Target {
        Target::Tcp(self.port)
    }

    pub(crate) fn unix(&self) -> Target {
        Target::Unix(self.path("sock"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
