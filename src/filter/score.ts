// From findings to a sum, and from the sum to an action. Facts, weights and policy meet only here.
// Promise (P7): the sum depends on which symbols were found, not on how often, in what order or by how many filters.
import type { WeighedFinding } from '../observe/events.ts'
import type { Finding } from './filter.ts'

export interface Weight {
  readonly score: number
  /** `scores.yaml:12`, or `no weight` where no file names the symbol. */
  readonly source: string
}
export type WeightOf = (symbol: string) => Weight

export interface Found {
  readonly filter: string
  readonly finding: Finding
}

export interface Weighed {
  readonly score: number
  readonly findings: readonly WeighedFinding[]
}

export interface ActionThresholds {
  readonly tag: number
  readonly defer?: number | undefined
  readonly reject: number
}
export type ScoreAction = 'deliver' | 'tag' | 'defer' | 'reject'

/** Weighs each symbol once; the first filter that found it is named. */
export function weigh(found: readonly Found[], weightOf: WeightOf): Weighed {
  const bySymbol = new Map<string, WeighedFinding>()
  let score = 0
  for (const { filter, finding } of found) {
    if (bySymbol.has(finding.symbol)) continue
    const weight = weightOf(finding.symbol)
    score += weight.score
    bySymbol.set(finding.symbol, {
      symbol: finding.symbol,
      score: weight.score,
      source: weight.source,
      filter,
      ...(finding.detail === undefined ? {} : { detail: finding.detail }),
    })
  }
  // Tenths and hundredths of weights add up to 4.999999: what is shown and what decides must be one number.
  return { score: Math.round(score * 1000) / 1000, findings: [...bySymbol.values()] }
}

/** The gravest action whose threshold the score reaches. */
export function actionFor(score: number, thresholds: ActionThresholds): ScoreAction {
  if (score >= thresholds.reject) return 'reject'
  if (thresholds.defer !== undefined && score >= thresholds.defer) return 'defer'
  return score >= thresholds.tag ? 'tag' : 'deliver'
}
