#!/bin/sh
# nginx with one worker that answers /poll as `switchboard load poll+http://…/poll?topic=lab` expects it, from its configuration: `serve.sh PORT`.
# It is told to end by SIGTERM, and its folder stays behind for the next one.
set -eu
port=$1
folder=${TMPDIR:-/tmp}/switchboard-nginx-$port
mkdir -p "$folder"
cat > "$folder/nginx.conf" <<END
daemon off;
worker_processes 1;
pid $folder/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    server {
        listen 127.0.0.1:$port backlog=4096;
        location = /poll {
            default_type application/json;
            return 200 '{"topic":"lab","newest":0,"events":[]}';
        }
    }
}
END
PATH=$PATH:/usr/sbin exec nginx -p "$folder" -c nginx.conf
