"""What a service tells about itself: logs, status, metrics, HTTP, MQTT, systemd."""
