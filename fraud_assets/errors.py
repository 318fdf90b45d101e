"""The one ancestor of our errors: whoever meets it may show its message as it is."""


class FraudAssetsError(Exception):
    """A fault of data, settings or order of work; the message says what is wrong and what a person can do."""
