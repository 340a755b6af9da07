// The history of one property in the browser: a column of times, values and qualities per role, merged and trimmed.
const POINTS_MAX = 4_000;
const WIDTHS_S = { "1m": 60, "15m": 900, "1h": 3_600 };
const BACKFILLED = 12;
const STEPS_MIN = 12;
const Z90 = 1.645; // 90 % of a normal distribution
const FAR = 3; // beyond this many sigma noise is no explanation any more
const CUT = 4; // so many sigma of the residual are always shown
const USUAL = 0.95; // and so much of all points; what lies beyond stands at the edge, so that one does not flatten all others

export class Track {
  roles = {};
  truncated = false;
  /** Of the first answer: later ones go on in it. */
  resolution = null;
  /** Milliseconds before which not all is kept, 0 where it is. */
  keptFrom = 0;
  /** Sigma of the noise in measured minus predicted, by the median of its steps: deaf to outliers and to drift; null while too few are known to judge. */
  spread = null;

  clear() {
    this.roles = {};
    this.spread = null;
    this.truncated = false;
    this.resolution = null;
    this.keptFrom = 0;
  }

  /** Takes a HistoryView; a point known already is replaced, a late one finds its place. A bucket stands in its middle. */
  merge(history) {
    this.resolution = history.resolution ?? "raw";
    const middle = (WIDTHS_S[this.resolution] ?? 0) / 2;
    for (const [role, run] of Object.entries(history.series)) {
      const mine = this.roles[role] ??= run.buckets ? { t: [], v: [], q: [], low: [], high: [] } : { t: [], v: [], q: [] };
      if (run.expired) this.keptFrom = Math.max(this.keptFrom, Date.parse(run.kept_from));
      const last = mine.t.at(-1) ?? -Infinity;
      let late = false;
      run.t_ns.forEach((ns, i) => {
        const t = Math.round(ns / 1e6) / 1e3 + middle;
        if (t <= last) late = true;
        mine.t.push(t);
        mine.v.push(typeof run.value[i] === "boolean" ? Number(run.value[i]) : run.value[i]);
        // A mean is of what is usable: it is as good as that.
        mine.q.push(run.buckets?.usable[i] ? 0 : run.quality[i]);
        mine.low?.push(run.buckets?.low[i]);
        mine.high?.push(run.buckets?.high[i]);
      });
      if (late) Object.assign(mine, sorted(mine));
      const spare = mine.t.length - POINTS_MAX;
      if (spare > 0) for (const column of Object.values(mine)) column.splice(0, spare);
      this.truncated ||= run.truncated;
    }
    const known = (this.roles.innovation?.v ?? []).slice(-1_000).filter(Number.isFinite);
    const steps = known.slice(1).map((v, i) => Math.abs(v - known[i]));
    this.spread = steps.length < STEPS_MIN ? null : 1.4826 / Math.SQRT2 * median(steps);
  }

  /** Drops what lies before `t`, in seconds. */
  trim(t) {
    for (const mine of Object.values(this.roles)) {
      let k = 0;
      while (k < mine.t.length && mine.t[k] < t) k += 1;
      if (k > 100) for (const column of Object.values(mine)) column.splice(0, k);
    }
  }

  get newest() {
    return Math.max(...Object.values(this.roles).map((mine) => mine.t.at(-1) ?? -Infinity), -Infinity);
  }

  get oldest() {
    return Math.min(...Object.values(this.roles).map((mine) => mine.t[0] ?? Infinity), Infinity);
  }

  /** Usual distance of samples in seconds: the median of the last hundred. */
  get period() {
    const t = (this.roles.measured ?? this.roles.estimate)?.t.slice(-100) ?? [];
    const steps = t.slice(1).map((x, i) => x - t[i]).sort((a, b) => a - b);
    return steps[steps.length >> 1] ?? 1;
  }

  /**
   * Columns `t, high and low of what may be measured, high and low of the model's 90 %, estimate`, and
   * `t, inside, outside, late, bad, highest, lowest` of what was measured; the last two in buckets only.
   */
  band() {
    const { estimate, sigma, measured } = this.roles;
    const model = [[], [], [], [], [], []];
    const sigmaAt = stepper(sigma);
    const step = 6 * this.period;
    estimate?.t.forEach((t, i) => {
      const v = estimate.v[i];
      if (i && t - estimate.t[i - 1] > step) push(model, t - step / 2, null, null, null, null, null);
      const sigma90 = Z90 * (sigmaAt(t) ?? 0);
      const wide = measured ? FAR * Math.max(sigmaAt(t) ?? 0, this.spread) : 0;
      push(model, t, ...[wide, -wide, sigma90, -sigma90, 0].map((add) => v == null ? null : v + add));
    });
    const points = [[], [], [], [], [], [], []];
    const estimateAt = stepper(estimate);
    const spreadAt = stepper(sigma);
    let outside = 0;
    measured?.t.forEach((t, i) => {
      const v = measured.v[i];
      const q = measured.q[i];
      const e = estimateAt(t);
      const bad = q >> 8 > 0;
      const out = !bad && e != null && this.spread != null && Math.abs(v - e) > FAR * Math.max(spreadAt(t) ?? Infinity, this.spread);
      const late = !bad && !out && (q & 255) === BACKFILLED;
      outside += out;
      if (measured.low && i && t - measured.t[i - 1] > step) push(points, t - step / 2, null, null, null, null, null, null);
      push(points, t, bad || out || late ? null : v, out ? v : null, late ? v : null, bad ? v : null, measured.high?.[i] ?? null, measured.low?.[i] ?? null);
    });
    return { model, points, outside, total: measured?.t.length ?? 0 };
  }

  /** Columns `t, value, bad, highest, lowest` of an input. */
  line() {
    const columns = [[], [], [], [], []];
    const { measured } = this.roles;
    const step = 6 * this.period;
    measured?.t.forEach((t, i) => {
      if (i && t - measured.t[i - 1] > step) push(columns, t - step / 2, null, null, null, null);
      const bad = measured.q[i] >> 8 > 0;
      push(columns, t, bad ? null : measured.v[i], bad ? measured.v[i] : null, measured.high?.[i] ?? null, measured.low?.[i] ?? null);
    });
    return columns;
  }

  /** Columns `t, innovation, beyond 3 sigma, +2, -2, +3, -3 sigma`. */
  residual() {
    const columns = [[], [], [], [], [], [], []];
    const { innovation, sigma } = this.roles;
    const sigmaAt = stepper(sigma);
    const spreads = innovation?.t.map((t) => { const s = sigmaAt(t); return s == null || this.spread == null ? null : Math.max(s, this.spread); }) ?? [];
    const usual = ranked(innovation?.v.filter(Number.isFinite).map(Math.abs) ?? [], USUAL);
    const reach = Math.max(CUT * ranked(spreads.filter(Number.isFinite), 0.5), 1.1 * usual) || Infinity;
    const cut = (v) => v == null ? v : Math.max(-reach, Math.min(reach, v));
    innovation?.t.forEach((t, i) => {
      const v = innovation.v[i];
      const s = spreads[i];
      const far = s != null && Math.abs(v) > FAR * s;
      push(columns, t, cut(v), far ? cut(v) : null, ...(s == null ? [null, null, null, null] : [2 * s, -2 * s, 3 * s, -3 * s].map(cut)));
    });
    return columns;
  }

  /** Columns `t, score, score above the limit of 1`. */
  drift() {
    const { drift } = this.roles;
    return [drift?.t ?? [], drift?.v ?? [], drift?.v.map((v) => v >= 1 ? v : null) ?? []];
  }
}

const median = (values) => ranked(values, 0.5);

/** The value below which a share of all lies, 0 of none. */
function ranked(values, share) {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * share)] ?? 0;
}

function push(columns, ...row) {
  row.forEach((value, i) => columns[i].push(value));
}

function sorted(run) {
  const at = new Map(run.t.map((t, i) => [t, i]));
  const order = [...at.keys()].sort((a, b) => a - b);
  return Object.fromEntries(Object.entries(run).map(([name, column]) => [name, name === "t" ? order : order.map((t) => column[at.get(t)])]));
}

/** Value of a run at rising times: the newest point not after `t`, else the first. */
function stepper(run) {
  let k = 0;
  return (t) => {
    if (!run?.t.length) return null;
    while (k + 1 < run.t.length && run.t[k + 1] <= t) k += 1;
    return run.v[k];
  };
}
