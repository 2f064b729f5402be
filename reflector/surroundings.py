"""How a reflector is seen from outside: the HTTP status and MQTT, as far as they are configured.

Loaded only when one of them is: a reflector without them does without their libraries.
"""

from collections.abc import Mapping

from bgpd.telemetry.http import HttpOptions, HttpOptionsError, StatusServer
from bgpd.telemetry.mqtt import MqttOptions, MqttPublisher
from bgpd.telemetry.status import StatusSource
from reflector.config import ConfigError, ReflectorConfig
from reflector.spec import read_secret


class Surroundings:
    """The status server and the publisher of one service. Raises ConfigError for unusable options."""

    def __init__(self, source: StatusSource, config: ReflectorConfig, environ: Mapping[str, str]) -> None:
        self._http: StatusServer | None = None
        self._mqtt: MqttPublisher | None = None
        http, mqtt = config.http, config.mqtt
        if http is not None:
            token = read_secret(http.token, environ)
            options = HttpOptions(str(http.address), http.port, token, http.certificate, http.key)
            try:
                self._http = StatusServer(source, options)
            except HttpOptionsError as error:
                raise ConfigError(f"http: {error}") from error
        if mqtt is not None:
            password = read_secret(mqtt.password, environ)
            broker = MqttOptions(
                mqtt.host,
                mqtt.port,
                mqtt.prefix,
                mqtt.username,
                password,
                tls=mqtt.ca is not None,
                ca=mqtt.ca,
            )
            self._mqtt = MqttPublisher(source, broker)

    async def start(self) -> str:
        """Serve and publish; gives where the status is served, empty when it isn't."""
        if self._mqtt is not None:
            self._mqtt.start()
        if self._http is None:
            return ""
        try:
            await self._http.start()
        except (OSError, HttpOptionsError) as error:
            raise ConfigError(f"http: {error}") from error
        return self._http.url

    async def stop(self) -> None:
        """Say goodbye and stop."""
        if self._mqtt is not None:
            await self._mqtt.stop()
        if self._http is not None:
            await self._http.stop()
