"""How a service is seen from outside: the HTTP status and MQTT, as far as they are configured."""

from collections.abc import Mapping

from bgpd.telemetry.config import ConfigError, Http, Mqtt, SecretSource
from bgpd.telemetry.http import HttpOptions, HttpOptionsError, StatusServer
from bgpd.telemetry.mqtt import MqttOptions, MqttPublisher
from bgpd.telemetry.status import StatusSource


class Surroundings:
    """The status server and the publisher of one service. Raises ConfigError for unusable options."""

    def __init__(
        self, source: StatusSource, http: Http | None, mqtt: Mqtt | None, environ: Mapping[str, str]
    ) -> None:
        self._http: StatusServer | None = None
        self._mqtt: MqttPublisher | None = None
        if http is not None:
            token = _secret("http.token", http.token, environ)
            options = HttpOptions(str(http.address), http.port, token, http.certificate, http.key)
            try:
                self._http = StatusServer(source, options)
            except HttpOptionsError as error:
                raise ConfigError(f"http.{error}") from error
        if mqtt is not None:
            password = _secret("mqtt.password", mqtt.password, environ)
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
        except HttpOptionsError as error:
            raise ConfigError(f"http.{error}") from error
        except OSError as error:
            raise ConfigError(f"http: {error}; choose an address and a port that are free here") from error
        return self._http.url

    async def stop(self, *, leaving: bool = False) -> None:
        """Say goodbye and stop; `leaving` for good."""
        if self._mqtt is not None:
            await self._mqtt.stop(leaving=leaving)
        if self._http is not None:
            await self._http.stop()


def _secret(place: str, source: SecretSource | None, environ: Mapping[str, str]) -> str | None:
    try:
        return None if source is None else source.read(environ)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}; have it there, or say where it is") from error
