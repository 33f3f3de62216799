// The results as people and as programs read them.

export interface Report {
  readonly id: string
  readonly title: string
  readonly area: string
  readonly profile: string
  readonly status: 'pass' | 'fail' | 'waits'
  readonly reason: string | undefined
  /** Dialogue and log of a case that failed. */
  readonly details: readonly string[]
  readonly ms: number
}

export interface Summary {
  readonly pass: number
  readonly fail: number
  readonly waits: number
}

export function summary(reports: readonly Report[]): Summary {
  const count = (status: Report['status']): number => reports.filter((report) => report.status === status).length
  return { pass: count('pass'), fail: count('fail'), waits: count('waits') }
}

/** One line a case; under a failed one stands all that is known of it. */
export function toText(report: Report): string {
  const head = `${report.id.padEnd(6)} ${report.title}`
  switch (report.status) {
    case 'pass':
      return `pass  ${head} (${report.ms} ms)`
    case 'waits':
      return `wait  ${head}: ${report.reason}`
    case 'fail':
      return [
        `FAIL  ${head}`,
        ...(report.reason ?? '').split('\n').map((line) => `        ${line}`),
        ...report.details.map((line) => `        | ${line}`),
      ].join('\n')
  }
}

export function toJson(reports: readonly Report[]): string {
  const cases = reports.map(({ details, reason, ...report }) => ({
    ...report,
    ...(reason === undefined ? {} : { reason }),
    ...(details.length === 0 ? {} : { details }),
  }))
  return JSON.stringify({ cases, summary: summary(reports) }, null, 2)
}
