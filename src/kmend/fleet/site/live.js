// Shows what changed without a reload. Every page works without this file.
"use strict";
{
  const after = document.currentScript.dataset.after;
  const words = document.getElementById("live");
  let source = null;
  let waits = false;
  let last = after;
  let pause = 700;

  const say = (text) => { words.textContent = text; };

  // A part stays as it is while somebody works in it.
  const inUse = (part) => part.contains(document.activeElement) || part.querySelector("details[open]") !== null;

  const refresh = async () => {
    waits = false;
    const begun = performance.now();
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (answer.redirected || !answer.ok) {
      stop();
      say("Not live. Reload the page to see what is new.");
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    // A page of a large fleet takes its time, so it is asked for less often.
    pause = Math.max(700, 10 * (performance.now() - begun));
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (now && now.innerHTML !== part.innerHTML && !inUse(part)) part.replaceChildren(...now.childNodes);
    }
  };

  // Many events soon after each other are one look.
  const soon = () => {
    if (waits) return;
    waits = true;
    setTimeout(() => refresh().catch(() => say("Not live. The server does not answer.")), pause);
  };

  const stop = () => { if (source) source.close(); source = null; };

  const start = () => {
    if (source) return;
    source = new EventSource(`/live?after=${last}`);
    source.onopen = () => say("Live: changes appear by themselves.");
    source.onmessage = (event) => { last = event.lastEventId || last; soon(); };
    source.onerror = () => say("Not live. Trying again …");
  };

  // A browser opens only some connections to a server, so pages that nobody looks at give theirs back.
  document.addEventListener("visibilitychange", () => document.hidden ? stop() : start());
  addEventListener("pagehide", stop);
  if (!document.hidden) start();
}
