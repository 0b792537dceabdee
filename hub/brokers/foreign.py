"""What a broker that the hub does not start must be told: TLS with client certificates, the access list, its limits."""

from __future__ import annotations

from hub.authority import HUB_NAME
from hub.brokers.rules import MAX_INFLIGHT, MAX_PACKET_BYTES, MAX_QUEUED_BYTES, MAX_QUEUED_MESSAGES, SESSION_EXPIRY
from wire.topics import PREFIX


def mosquitto(fleet: str) -> str:
    """Lines for mosquitto.conf, and its access list."""
    below = f"{PREFIX}/{fleet}/+"
    return f"""\
# --- mosquitto.conf (2.0; in 2.1 acl_file is a plugin)
listener 8883
cafile /etc/mosquitto/edgequilt/ca.pem
certfile /etc/mosquitto/edgequilt/broker.pem
keyfile /etc/mosquitto/edgequilt/broker.key
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file /etc/mosquitto/edgequilt/broker.acl
persistence true
max_queued_messages {MAX_QUEUED_MESSAGES}
max_queued_bytes {MAX_QUEUED_BYTES}
max_inflight_messages {MAX_INFLIGHT}
persistent_client_expiration {SESSION_EXPIRY}
max_packet_size {MAX_PACKET_BYTES}
set_tcp_nodelay true

# --- broker.acl: %u is the common name of the certificate
user {HUB_NAME}
topic readwrite {PREFIX}/{fleet}/#

pattern write {below}/up/%u/#
pattern write {below}/peer/%u/+/+
pattern read {below}/down/%u/#
pattern read {below}/all/#
pattern read {below}/peer/+/%u/+
"""


def emqx(fleet: str) -> str:
    """Lines for emqx.conf (5.x), and its access list."""
    below = f"{PREFIX}/{fleet}/+"
    return f"""\
## --- emqx.conf (5.x)
listeners.ssl.default {{
  bind = "0.0.0.0:8883"
  ssl_options {{
    cacertfile = "etc/edgequilt/ca.pem"
    certfile = "etc/edgequilt/broker.pem"
    keyfile = "etc/edgequilt/broker.key"
    verify = verify_peer
    fail_if_no_peer_cert = true
  }}
}}
mqtt {{
  peer_cert_as_username = cn
  max_packet_size = {MAX_PACKET_BYTES}B
  max_inflight = {MAX_INFLIGHT}
  max_mqueue_len = infinity
  session_expiry_interval = {SESSION_EXPIRY}
}}
authorization {{
  no_match = deny
  deny_action = ignore
  sources = [{{type = file, enable = true, path = "etc/edgequilt/acl.conf"}}]
}}

%% --- acl.conf
{{allow, {{username, "{HUB_NAME}"}}, all, ["{PREFIX}/{fleet}/#"]}}.
{{allow, all, publish, ["{below}/up/${{username}}/#", "{below}/peer/${{username}}/+/+"]}}.
{{allow, all, subscribe, ["{below}/down/${{username}}/#", "{below}/all/#", "{below}/peer/+/${{username}}/+"]}}.
{{deny, all}}.
"""


CONFIGURATIONS = {"mosquitto": mosquitto, "emqx": emqx}
