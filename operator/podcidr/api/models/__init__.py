"""The custom resources as pydantic models: the one source of the CRDs. The agent never imports them."""
