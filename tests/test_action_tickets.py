from fixtures.action_case import ActionCase


class _Tickets(ActionCase):
    def setUp(self):
        super().setUp()
        self.made = []
        for agent in ("agent-a", "agent-b", "agent-b"):
            self.now += 60
            given = {"agent_id": agent, "failure_type": "timeout"}
            self.made.append(self.run_other("log_recovery_failure", **given)[1]["ticket"])


class TicketListTest(_Tickets):
    action = "ticket.list"

    def listed(self, **given):
        ok, result = self.run_action(**given)
        self.assertTrue(ok)
        return [(ticket["subject"], ticket["occurrences"]) for ticket in result["tickets"]]

    def test_the_newest_event_comes_first(self):
        self.assertEqual(self.listed(), [("agent-b", 2), ("agent-a", 1)])

    def test_of_a_subject_or_a_status(self):
        self.assertEqual(self.listed(subject="agent-a"), [("agent-a", 1)])
        self.assertEqual(len(self.listed(status="open")), 2)
        self.assertEqual(self.listed(status="resolved"), [])
        self.assertEqual(self.listed(subject="nobody"), [])

    def test_none_yet(self):
        self.datastore.rows.clear()
        self.assertEqual(self.listed(), [])

    def test_a_list_that_cannot_be_read_is_not_an_empty_list(self):
        self.take_datastore_away()
        ok, result = self.run_action()
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "stackstorm_api")
        self.assertNotIn("tickets", result)

    def test_what_is_no_ticket_is_passed_over(self):
        self.datastore.rows["synthralos.ticket.T000000000000.0-0"] = "no JSON"
        self.datastore.rows["synthralos.ticket.T000000000001.0-0"] = "[]"
        self.assertEqual(len(self.listed()), 2)


class TicketGetTest(_Tickets):
    action = "ticket.get"

    def test_shows_a_ticket_with_its_events(self):
        ok, result = self.run_action(ticket_id=self.made[1])
        self.assertTrue(ok)
        ticket = result["ticket"]
        self.assertEqual((ticket["ticket"], ticket["subject"]), (self.made[1], "agent-b"))
        self.assertEqual((ticket["status"], ticket["occurrences"]), ("open", 2))
        self.assertEqual(len(ticket["events"]), 2)
        self.assertGreater(ticket["events"][0]["at"], ticket["events"][1]["at"])

    def test_an_unknown_ticket_is_refused(self):
        outcome = self.run_action(ticket_id="T000000000000")
        self.assertRefused("ticket_id", outcome, way_out="ticket.list")

    def test_a_ticket_that_cannot_be_read_is_not_unknown(self):
        self.take_datastore_away()
        ok, result = self.run_action(ticket_id=self.made[0])
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "stackstorm_api")
