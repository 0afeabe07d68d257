"""`gymhost serve` over a store that answers without committing: what the kill test must catch."""

from typing import Any

from gymhost.cli import main
from gymhost.stores.sqlite import database


class ForgetfulDatabase(database.Database):
    """Begins one transaction, and never ends it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        execute = self.execute

        def forget(statement: str, *more: Any) -> Any:
            begun = self.connection.in_transaction
            ends = statement == "COMMIT" or (statement == "BEGIN IMMEDIATE" and begun)
            return execute("SELECT 1" if ends else statement, *more)

        self.execute = forget  # type: ignore[assignment]


if __name__ == "__main__":
    database.Database = ForgetfulDatabase  # type: ignore[misc]
    main()
