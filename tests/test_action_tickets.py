from fixtures.action_case import RUN, ActionCase


class _Tickets(ActionCase):
    def setUp(self):
        super().setUp()
        self.tickets = []
        for agent in ("agent-a", "agent-b", "agent-b"):
            self.now += 60
            parameters = {"agent_id": agent, "failure_type": "timeout"}
            self.tickets.append(self.run_other("log_recovery_failure", **parameters)[1]["ticket"])


class TicketListTest(_Tickets):
    action = "ticket.list"

    def subjects(self, **inputs):
        ok, result = self.run_action(**inputs)
        self.assertTrue(ok)
        return [(ticket["subject"], ticket["occurrences"]) for ticket in result["tickets"]]

    def test_the_newest_event_comes_first(self):
        self.assertEqual(self.subjects(), [("agent-b", 2), ("agent-a", 1)])

    def test_of_a_subject_or_a_status(self):
        self.assertEqual(self.subjects(subject="agent-a"), [("agent-a", 1)])
        self.assertEqual(len(self.subjects(status="open")), 2)
        self.assertEqual(self.subjects(status="resolved"), [])
        self.assertEqual(self.subjects(subject="nobody"), [])

    def test_none_yet(self):
        self.datastore.rows.clear()
        self.assertEqual(self.subjects(), [])

    def test_a_list_that_cannot_be_read_is_not_an_empty_list(self):
        self.take_datastore_away()
        ok, result = self.run_action()
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "stackstorm_api")
        self.assertNotIn("tickets", result)

    def test_what_is_no_ticket_is_passed_over(self):
        self.datastore.rows["synthralos.ticket.T000000000000.0-0"] = "no JSON"
        self.datastore.rows["synthralos.ticket.T000000000001.0-0"] = "[]"
        self.assertEqual(len(self.subjects()), 2)


class TicketGetTest(_Tickets):
    action = "ticket.get"

    def test_shows_a_ticket_with_its_events(self):
        ok, result = self.run_action(ticket_id=self.tickets[1])
        self.assertTrue(ok)
        ticket = result["ticket"]
        self.assertEqual((ticket["ticket"], ticket["subject"]), (self.tickets[1], "agent-b"))
        self.assertEqual((ticket["status"], ticket["occurrences"]), ("open", 2))
        self.assertEqual(len(ticket["events"]), 2)
        self.assertGreater(ticket["events"][0]["at"], ticket["events"][1]["at"])

    def test_an_unknown_ticket_is_refused(self):
        outcome = self.run_action(ticket_id="T000000000000")
        self.assertRefused("ticket_id", outcome, way_out="ticket.list")

    def test_a_ticket_that_cannot_be_read_is_not_unknown(self):
        self.take_datastore_away()
        ok, result = self.run_action(ticket_id=self.tickets[0])
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "stackstorm_api")


class TicketCreateTest(_Tickets):
    action = "ticket.create"

    def created(self, **more):
        self.now += 1
        inputs = dict({"subject": "agent-c", "summary": "it hangs"}, **more)
        ok, result = self.run_action(**inputs)
        self.assertTrue(ok, result["summary"])
        return result

    def test_opens_a_ticket_then_adds_to_it(self):
        first = self.created(failure_type="timeout", severity="low")
        self.assertEqual((first["new"], first["occurrences"], first["level"]),
                         (True, 1, "auto_recovery"))
        again = [self.created(failure_type="timeout", severity="low") for _ in range(4)]
        self.assertEqual({ticket["ticket"] for ticket in again}, {first["ticket"]})
        self.assertEqual([ticket["level"] for ticket in again],
                         ["auto_recovery", "supervisor_review", "supervisor_review",
                          "human_intervention"])
        self.assertEqual([ticket["previous_level"] for ticket in again],
                         [None, "auto_recovery", None, "supervisor_review"])
        self.assertGreater(again[-1]["priority"], first["priority"])

    def test_the_level_may_be_asked_for_and_impact_counts(self):
        result = self.created(level="human_intervention", impact=10)
        self.assertEqual(result["level"], "human_intervention")
        other = self.created(subject="agent-d", impact=0)
        self.assertEqual(result["priority"] - other["priority"], 15)

    def test_an_alias_and_words_name_the_cause(self):
        for inputs, cause in (({"failure_type": "resource_error"}, "resource"),
                             ({"summary": "Rate limit exceeded"}, "rate_limit")):
            ticket = self.created(**inputs)["ticket"]
            self.assertEqual(self.run_other("ticket.get", ticket_id=ticket)[1]["ticket"]["cause"],
                             cause)

    def test_who_must_know_is_told(self):
        self.config["escalation"] = {"notification_channels": {"email": True}}
        result = self.created(severity="high")
        self.assertEqual(
            {
                notification["channel"]: notification["status"]
                for notification in result["notifications"]
            },
            {"mail": "not_configured", "slack": "off", "webhook": "off", "announcement": "off"},
        )

    def test_refusals(self):
        for field, more in (
            ("subject", {"subject": "two words"}), ("summary", {"summary": " "}),
            ("details", {"details": {"k%d" % n: n for n in range(21)}}),
        ):
            inputs = dict({"subject": "a", "summary": "s"}, **more)
            self.assertRefused(field, self.run_action(**inputs))
        self.config["escalation"] = {"notify_from": "nobody"}
        self.assertRefused("escalation.notify_from", self.run_action(subject="a", summary="s"),
                           "critical_alert")

    def test_what_was_not_recorded_is_an_error(self):
        self.take_datastore_away()
        ok, result = self.run_action(subject="a", summary="s")
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class TicketTakeTest(_Tickets):
    action = "ticket.take"

    def test_it_is_in_progress_with_whoever_takes_it(self):
        self.now += 1
        ok, result = self.run_action(ticket_id=self.tickets[0], by="jane")
        self.assertEqual((ok, result["ticket"]["status"]), (True, "in_progress"))
        self.assertEqual(result["ticket"]["taken_by"], "jane")
        self.now += 1
        _, result = self.run_action(ticket_id=self.tickets[0], by="ann")
        self.assertEqual(result["ticket"]["taken_by"], "ann")

    def test_the_user_of_the_run_takes_it(self):
        self.api.executions_by_id[RUN] = {"id": RUN, "context": {"user": "st2admin"}}
        self.now += 1
        _, result = self.run_action(ticket_id=self.tickets[0])
        self.assertEqual(result["ticket"]["taken_by"], "st2admin")

    def test_refusals(self):
        self.assertRefused("by", self.run_action(ticket_id=self.tickets[0]), "Give a name")
        self.assertRefused("by", self.run_action(ticket_id=self.tickets[0], by="two words"))
        unknown = self.run_action(ticket_id="T000000000000", by="jane")
        self.assertRefused("ticket_id", unknown, "ticket.list")
        self.now += 1
        self.run_other("ticket.resolve", ticket_id=self.tickets[0], resolution="done", by="jane")
        outcome = self.run_action(ticket_id=self.tickets[0], by="jane")
        self.assertRefused("ticket_id", outcome, "ticket.create")
        self.take_datastore_away()
        ok, result = self.run_action(ticket_id=self.tickets[1], by="jane")
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class TicketResolveTest(_Tickets):
    action = "ticket.resolve"

    def test_it_is_resolved_until_the_problem_comes_back(self):
        self.now += 1
        ok, result = self.run_action(
            ticket_id=self.tickets[0], resolution="restarted it", by="jane@example.com")
        self.assertEqual((ok, result["ticket"]["status"]), (True, "resolved"))
        self.assertEqual(result["ticket"]["resolution"], "restarted it")
        self.now += 1
        again = self.run_action(ticket_id=self.tickets[0], resolution="once more", by="ann")[1]
        self.assertEqual(again["ticket"]["resolved_by"], "jane@example.com")
        self.now += 1
        self.run_other("log_recovery_failure", agent_id="agent-a", failure_type="timeout")
        ticket = self.run_other("ticket.get", ticket_id=self.tickets[0])[1]["ticket"]
        self.assertEqual((ticket["status"], ticket["occurrences"]), ("open", 1))

    def test_refusals(self):
        self.assertRefused("resolution", self.run_action(
            ticket_id=self.tickets[0], resolution=" ", by="jane"), "a few words")
        self.assertRefused("ticket_id", self.run_action(
            ticket_id="T000000000000", resolution="x", by="jane"), "ticket.list")
        self.assertRefused("by", self.run_action(ticket_id=self.tickets[0], resolution="x"))


class TicketProcessTest(_Tickets):
    action = "ticket.process"

    def test_what_nobody_took_in_time_rises(self):
        self.now += 301
        ok, result = self.run_action()
        self.assertEqual((ok, result["open"], result["raised"]), (True, 2, 2))
        self.assertEqual(
            {ticket["previous_level"] for ticket in result["tickets"]}, {"auto_recovery"}
        )
        self.assertEqual({ticket["level"] for ticket in result["tickets"]}, {"supervisor_review"})
        self.assertEqual(self.run_action()[1]["raised"], 0)

    def test_what_somebody_has_taken_does_not(self):
        self.now += 1
        self.run_other("ticket.take", ticket_id=self.tickets[0], by="jane")
        self.config["escalation"] = {"escalation_timeout": 60}
        self.now += 100
        self.assertEqual([ticket["ticket"] for ticket in self.run_action()[1]["tickets"]],
                         [self.tickets[1]])

    def test_a_notification_that_failed_fails_it(self):
        self.config["escalation"] = {
            "notify_from": "auto_recovery",
            "notification_channels": {"webhook": True},
            "webhook": {"url": self.box.url("/no/such/hook")}}
        ok, result = self.run_action()
        self.assertFalse(ok)
        self.assertIn("2 failed", result["summary"])
        self.assertEqual(result["channels"]["webhook"], "ready")

    def test_refusals(self):
        self.config["escalation"] = {"escalation_timeout": -1}
        self.assertRefused("escalation.escalation_timeout", self.run_action(), "0 to 604800")
        del self.config["escalation"]
        self.take_datastore_away()
        ok, result = self.run_action()
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))
