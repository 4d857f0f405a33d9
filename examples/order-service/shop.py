#!/usr/bin/env python3
"""A shop that sells places through reservd, and speaks to it over RabbitMQ only.

    shop.py [options] EVENT USER:QUANTITY:pays|forgets ...

For each customer it places an order: sends Reserve as a command, and gets a hold with its time limit. The
customer pays, and it sends Confirm; or forgets to, and it hears from the changes that the hold has lapsed.
It ends when each order has come to an end, and prints what happened. Interrupted before that, it exits with 130.

What makes it safe, whatever crashes on the way:

- Each order and the answer to it are in the shop's own database before the message is acknowledged.
- A command's message_id is made from the order's number. After a crash of the shop it is sent again
  (`--database FILE` keeps the orders): reservd answers with the first result, and no customer gets a second hold.
- Changes may come twice: those that are not newer than the newest seen of their event are skipped.
"""

import argparse
import json
import sqlite3
import sys
import uuid

import pika

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    number   TEXT PRIMARY KEY,
    event    TEXT NOT NULL,
    customer TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    pays     INTEGER NOT NULL,
    state    TEXT NOT NULL,      -- PLACED, HELD, PAID; final: CONFIRMED, LAPSED, REFUSED
    reservation TEXT,
    pay_before  TEXT
);
CREATE TABLE IF NOT EXISTS seen (event TEXT PRIMARY KEY, version INTEGER NOT NULL);
"""
OPEN_STATES = ("PLACED", "HELD", "PAID")


class Shop:
    def __init__(self, options):
        self.database = sqlite3.connect(options.database)
        self.database.executescript(SCHEMA)
        self.hold = options.hold
        self.commands = options.commands
        self.answers = f"{options.name}.answers"
        self.connection = pika.BlockingConnection(pika.URLParameters(options.broker))
        self.channel = self.connection.channel()
        # A command counts as sent once RabbitMQ has it in a queue.
        self.channel.confirm_delivery()
        self.channel.basic_qos(prefetch_count=20)
        changes = f"{options.name}.changes"
        for queue in (self.answers, changes):
            self.channel.queue_declare(queue, durable=True)
        self.channel.exchange_declare(options.exchange, exchange_type="topic", durable=True)
        self.channel.queue_bind(changes, options.exchange, routing_key="reservation.*")
        self.channel.basic_consume(self.answers, self.on_answer)
        self.channel.basic_consume(changes, self.on_change)

    def resume(self):
        """Sends again what a shop that crashed may not have sent, or not have heard the answer to."""
        for number, state in self.database.execute("SELECT number, state FROM orders").fetchall():
            if state == "PLACED":
                self.ask_for_hold(number)
            elif state == "PAID":
                self.ask_to_confirm(number)

    def place(self, number, event, customer, quantity, pays):
        """Takes an order, and asks for a hold."""
        with self.database:
            self.database.execute(
                "INSERT INTO orders (number, event, customer, quantity, pays, state)"
                " VALUES (?, ?, ?, ?, ?, 'PLACED')",
                (number, event, customer, quantity, pays),
            )
        self.say(number, f"{customer} orders {quantity}")
        self.ask_for_hold(number)

    def ask_for_hold(self, number):
        event, customer, quantity = self.order(number, "event, customer, quantity")
        self.command(
            "Reserve",
            number,
            {
                "eventId": event,
                "userId": customer,
                "quantity": quantity,
                "holdTtl": self.hold,
                # Comes back with each change, whichever arrives first, that or the answer.
                "labels": {"order": number},
            },
        )

    def pay(self, number):
        """The customer has paid: the hold is to become a reservation for good."""
        self.update(number, state="PAID")
        self.say(number, "is paid")
        self.ask_to_confirm(number)

    def ask_to_confirm(self, number):
        event, reservation = self.order(number, "event, reservation")
        self.command("Confirm", number, {"eventId": event, "reservation": {"reservationId": reservation}})

    def command(self, kind, number, body):
        self.channel.basic_publish(
            exchange="",
            routing_key=self.commands,
            body=json.dumps(body),
            mandatory=True,
            properties=pika.BasicProperties(
                type=f"reservd.v1.{kind}Request",
                content_type="application/json",
                message_id=f"{kind}-{number}",
                correlation_id=number,
                reply_to=self.answers,
                delivery_mode=2,
            ),
        )

    def on_answer(self, channel, method, properties, body):
        number, answer = properties.correlation_id, json.loads(body)
        state, pays = self.order(number, "state, pays")
        if properties.type == "google.rpc.Status":
            info = next(it for it in answer["details"] if it["@type"].endswith("google.rpc.ErrorInfo"))
            # A Confirm that came too late is one for which the money goes back.
            if state in OPEN_STATES:
                self.update(number, state="REFUSED")
                self.say(number, f"is refused: {info['reason']}, {answer['message']}")
        elif properties.type == "reservd.v1.ReserveResponse" and state == "PLACED":
            held = answer["reservation"]
            self.update(number, state="HELD", reservation=held["reservationId"], pay_before=held["expireTime"])
            self.say(number, f"is held until {held['expireTime']}")
            if pays:
                self.pay(number)
        elif properties.type == "reservd.v1.ConfirmResponse" and state == "PAID":
            self.update(number, state="CONFIRMED")
            self.say(number, "is confirmed")
        # Only now: had we crashed before, the answer would come again.
        channel.basic_ack(method.delivery_tag)

    def on_change(self, channel, method, properties, body):
        event, _, version = properties.headers["cloudEvents_id"].rpartition("/")
        change = json.loads(body)
        number = change["reservation"].get("labels", {}).get("order")
        with self.database:
            newer = self.database.execute(
                "INSERT INTO seen VALUES (?, ?)"
                " ON CONFLICT (event) DO UPDATE SET version = excluded.version WHERE version < excluded.version",
                (event, int(version)),
            ).rowcount
            lapsed = newer and method.routing_key == "reservation.expired" and self.database.execute(
                f"UPDATE orders SET state = 'LAPSED' WHERE number = ? AND state IN {OPEN_STATES}", (number,)
            ).rowcount
        if lapsed:
            self.say(number, "has lapsed: its places are free again")
        channel.basic_ack(method.delivery_tag)

    def order(self, number, columns):
        return self.database.execute(f"SELECT {columns} FROM orders WHERE number = ?", (number,)).fetchone()

    def update(self, number, **columns):
        assignments = ", ".join(f"{name} = ?" for name in columns)
        with self.database:
            self.database.execute(f"UPDATE orders SET {assignments} WHERE number = ?", (*columns.values(), number))

    def say(self, number, what):
        print(f"order {number} {what}", flush=True)

    def open_orders(self):
        return self.database.execute(f"SELECT count(*) FROM orders WHERE state IN {OPEN_STATES}").fetchone()[0]

    def work(self):
        """Takes answers and changes until each order has come to an end."""
        while self.open_orders():
            self.connection.process_data_events(time_limit=1)
        self.connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="amqp://127.0.0.1", help="RabbitMQ's URL")
    parser.add_argument("--exchange", default="reservd", help="where changes are published (broker.exchange)")
    parser.add_argument("--commands", default="reservd.commands", help="the queue for commands (broker.commands)")
    parser.add_argument("--name", default="shop", help="begins the names of the shop's own queues")
    parser.add_argument("--hold", default="600s", help="how long a customer may take to pay")
    parser.add_argument("--database", default=":memory:", help="a file for the shop's orders")
    parser.add_argument("event")
    parser.add_argument("customers", nargs="+", metavar="USER:QUANTITY:pays|forgets")
    options = parser.parse_args()
    shop = Shop(options)
    shop.resume()
    for customer in options.customers:
        user, quantity, manner = customer.split(":")
        if manner not in ("pays", "forgets"):
            sys.exit(f"{customer}: does {user} pay, or forget to?")
        # Never the number of another order: it makes the request_ids, which reservd remembers for weeks.
        shop.place(uuid.uuid4().hex[:12], options.event, user, int(quantity), manner == "pays")
    try:
        shop.work()
    except KeyboardInterrupt:
        print(f"interrupted: {shop.open_orders()} orders are open", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
