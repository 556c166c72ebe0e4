"""``/api/kernelspecs`` and the files that belong to kernelspecs."""

from __future__ import annotations

from clouditia_gateway.handlers.base import GatewayHandler


class KernelSpecsHandler(GatewayHandler):
    """All kernelspecs."""

    def get(self) -> None:
        """Jupyter's model of them."""
        specs, base_url = self.context.specs, self.context.config.base_url
        models = {name: specs.model(spec, base_url) for name, spec in specs.all().items()}
        self.answer({"default": specs.default_name, "kernelspecs": models})


class KernelSpecHandler(GatewayHandler):
    """One kernelspec."""

    def get(self, name: str) -> None:
        """Its model."""
        specs = self.context.specs
        self.answer(specs.model(specs.get(name), self.context.config.base_url))


class KernelSpecResourceHandler(GatewayHandler):
    """Logos; sandboxed by the headers, because an SVG may hold scripts."""

    def get(self, name: str, file_name: str) -> None:
        """The file."""
        content, media_type = self.context.specs.resource(name, file_name)
        self.set_header("Content-Type", media_type)
        self.finish(content)
